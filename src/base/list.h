/* Intrusive doubly linked list.  A head is a link that points at itself when the list is empty; an unlinked member is
   all zero, so that zeroed memory is a valid "not in any list". */
#ifndef AF_BASE_LIST_H
#define AF_BASE_LIST_H

#include "base/af.h"

typedef struct af_link {
    struct af_link *next, *prev;
} af_link;

static inline void
af_list_init(af_link *head)
{
    head->next = head->prev = head;
}

static inline int
af_list_linked(const af_link *link)
{
    return link->next != NULL;
}

static inline void
af_list_append(af_link *head, af_link *link)
{
    AF_ASSERT(!af_list_linked(link));
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void
af_list_remove(af_link *link)
{
    AF_ASSERT(af_list_linked(link));
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
}

#endif
