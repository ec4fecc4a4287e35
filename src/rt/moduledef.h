/* The one definition of asyncfast._core, filled in by module.c. */
#ifndef AF_RT_MODULEDEF_H
#define AF_RT_MODULEDEF_H

#include "base/af.h"
#include "rt/compat.h"

/* shared by rooms even when they are one unit, hence not AF_API: a tentative definition would not do */
extern __attribute__((visibility("hidden"))) PyModuleDef af_module_def;

#endif
