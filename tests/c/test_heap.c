/* base/heap.[ch] against an array in which the first timer is looked for, and against qsort(). */
#include "check.h"

#define malloc check_malloc
#define realloc check_realloc
#include "base/heap.c"
#undef malloc
#undef realloc

typedef struct {
    int64_t when;
    uint64_t order;         /* of arming */
    af_timer timer;
} entry;

static entry *
entry_of(af_timer *t)
{
    return af_container_of(t, entry, timer);
}

static int
before(const entry *a, const entry *b)
{
    return a->when != b->when ? a->when < b->when : a->order < b->order;
}

/* The keys are copied beside each other: a million of them take a while as it is. */
typedef struct {
    int64_t when;
    uint64_t order;
    entry *entry;
} key;

static int
compare(const void *a, const void *b)
{
    const key *x = a, *y = b;
    return x->when != y->when ? (x->when > y->when ? 1 : -1) : (x->order > y->order) - (x->order < y->order);
}

static void
sort(entry **entries, size_t n)
{
    key *keys = malloc((n + 1) * sizeof(*keys));
    CHECK(keys != NULL);
    for (size_t i = 0; i < n; i++) {
        keys[i] = (key){entries[i]->when, entries[i]->order, entries[i]};
    }
    qsort(keys, n, sizeof(*keys), compare);
    for (size_t i = 0; i < n; i++) {
        entries[i] = keys[i].entry;
    }
    free(keys);
}

static void
check_sane(const af_heap *h)
{
    CHECK(h->nheap + h->nstaged == af_heap_len(h));
    CHECK(af_heap_len(h) <= h->cap_heap || af_heap_len(h) == 0);    /* taking in never needs memory */
    CHECK(h->nstaged <= h->cap_staged);
    CHECK((af_heap_any(h) == NULL) == (af_heap_len(h) == 0));
#ifdef AF_DEBUG
    CHECK(af_heap_check(h));
#endif
}

/* Entries and pointers to them, which are brought into the order in which the heap has to give them. */
typedef struct {
    entry *all, **sorted;
    size_t n;
} entries;

static entries
entries_new(size_t n)
{
    entries e = {calloc(n, sizeof(entry)), calloc(n, sizeof(entry *)), n};
    CHECK(e.all != NULL && e.sorted != NULL);
    return e;
}

static void
entries_free(entries *e)
{
    free(e->all);
    free(e->sorted);
}

static void
arm_all(af_heap *h, entries *e)
{
    for (size_t i = 0; i < e->n; i++) {
        CHECK_EQ(af_heap_arm(h, &e->all[i].timer, e->all[i].when), 0);
        CHECK(af_timer_armed(&e->all[i].timer));
        e->all[i].order = i;
        e->sorted[i] = &e->all[i];
    }
    sort(e->sorted, e->n);
}

static void
check_popped(af_heap *h, entry *const *sorted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(af_heap_next(h), sorted[i]->when);
        CHECK(sorted[i]->when == INT64_MIN || af_heap_pop_due(h, sorted[i]->when - 1) == NULL);
        CHECK(af_heap_pop_due(h, sorted[i]->when) == &sorted[i]->timer);
        CHECK(!af_timer_armed(&sorted[i]->timer));
    }
    CHECK_EQ(af_heap_len(h), 0);
    CHECK(af_heap_pop_due(h, INT64_MAX) == NULL);
}

/* Those with when <= now are taken, the rest stay, and come in their turn. */
static void
check_taken(af_heap *h, int64_t now, entry *const *sorted, size_t n)
{
    size_t due = 0, got = 0;
    while (due < n && sorted[due]->when <= now) {
        due++;
    }
    const af_heap_slot *slots = af_heap_take_due(h, now, &got);
    CHECK(slots != NULL);
    CHECK_EQ(got, due);
    CHECK_EQ(af_heap_len(h), n - due);
    for (size_t i = 0; i < due; i++) {
        CHECK(slots[i].timer == &sorted[i]->timer);
        CHECK_EQ(slots[i].when, sorted[i]->when);
        slots[i].timer->pos = 0;
    }
    check_sane(h);
    CHECK(!af_heap_is_due(h, now));
    CHECK(af_heap_pop_due(h, now) == NULL);
    check_popped(h, sorted + due, n - due);
}

static void
check_not_taken(af_heap *h, int64_t now)
{
    size_t len = af_heap_len(h), n;
    CHECK(af_heap_take_due(h, now, &n) == NULL);
    CHECK_EQ(af_heap_len(h), len);
    check_sane(h);
}

/* ---- one timer and few ----------------------------------------------------------------------------------------- */

static void
test_none(void)
{
    af_heap h;
    size_t n;
    af_timer t = {0};
    af_heap_init(&h);
    CHECK_EQ(af_heap_len(&h), 0);
    CHECK(af_heap_pop_due(&h, INT64_MAX) == NULL);
    CHECK(af_heap_take_due(&h, INT64_MAX, &n) == NULL);
    CHECK(!af_heap_is_due(&h, INT64_MAX));
    CHECK(af_heap_any(&h) == NULL);
    CHECK(!af_timer_armed(&t));
    af_heap_disarm(&h, &t);
    CHECK_EQ(af_heap_len(&h), 0);
    af_heap_fini(&h);
}

static void
test_due_when_its_time_has_come_and_not_before(void)
{
    static const int64_t whens[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    af_heap h;
    af_heap_init(&h);
    for (size_t i = 0; i < sizeof(whens) / sizeof(whens[0]); i++) {
        af_timer t = {.kind = 7};
        CHECK_EQ(af_heap_arm(&h, &t, whens[i]), 0);
        CHECK_EQ(af_heap_next(&h), whens[i]);
        CHECK(whens[i] == INT64_MIN || af_heap_pop_due(&h, whens[i] - 1) == NULL);
        CHECK(af_timer_armed(&t));
        CHECK(af_heap_any(&h) == &t);
        CHECK(af_heap_pop_due(&h, whens[i]) == &t);
        CHECK(!af_timer_armed(&t));
        CHECK_EQ(t.kind, 7);
    }
    af_heap_fini(&h);
}

/* What is disarmed before the heap has seen it costs the others nothing. */
static void
test_the_heap_does_not_see_what_goes_at_once(void)
{
    enum { N = 100 };
    af_heap h;
    entries e = entries_new(N);
    af_timer t = {0};
    af_heap_init(&h);
    arm_all(&h, &e);
    CHECK_EQ(af_heap_next(&h), 0);      /* takes them in */
    CHECK_EQ(h.nheap, N);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(af_heap_arm(&h, &t, -1), 0);
        CHECK_EQ(h.nheap, N);
        CHECK_EQ(af_heap_len(&h), N + 1);
        af_heap_disarm(&h, &t);
        CHECK(!af_timer_armed(&t));
        CHECK_EQ(af_heap_len(&h), N);
        CHECK(af_heap_any(&h) != &t);
    }
    check_popped(&h, e.sorted, N);
    af_heap_fini(&h);
    entries_free(&e);
}

/* Each place of a heap and of the staging area, for every number of timers. */
static void
test_any_one_may_be_disarmed(void)
{
    enum { MOST = 40 };
    for (size_t n = 1; n <= MOST; n++) {
        for (size_t gone = 0; gone < n; gone++) {
            for (size_t staged = 0; staged <= n; staged += n) {
                af_heap h;
                entries e = entries_new(n);
                entry *left[MOST];
                size_t nleft = 0;
                af_heap_init(&h);
                for (size_t i = 0; i < n; i++) {
                    e.all[i].when = (int64_t)any_below(n);
                }
                arm_all(&h, &e);
                if (!staged) {
                    (void)af_heap_next(&h);
                }
                af_heap_disarm(&h, &e.all[gone].timer);
                CHECK(!af_timer_armed(&e.all[gone].timer));
                CHECK_EQ(af_heap_len(&h), n - 1);
                check_sane(&h);
                for (size_t i = 0; i < n; i++) {
                    if (e.sorted[i] != &e.all[gone]) {
                        left[nleft++] = e.sorted[i];
                    }
                }
                check_popped(&h, left, nleft);
                af_heap_fini(&h);
                entries_free(&e);
            }
        }
    }
}

static void
test_emptied_by_any(void)
{
    af_heap h;
    entries e = entries_new(300);
    af_heap_init(&h);
    for (size_t i = 0; i < e.n; i++) {
        CHECK_EQ(af_heap_arm(&h, &e.all[i].timer, (int64_t)any_below(50)), 0);
        if (i == 200) {
            (void)af_heap_next(&h);
        }
    }
    af_timer *t;
    size_t n = 0;
    for (; (t = af_heap_any(&h)) != NULL; n++) {
        CHECK(af_timer_armed(t));
        af_heap_disarm(&h, t);
        check_sane(&h);
    }
    CHECK_EQ(n, e.n);
    af_heap_fini(&h);
    entries_free(&e);
}

/* ---- any sequence of calls ------------------------------------------------------------------------------------- */

typedef struct {
    entry **armed;
    size_t n;
} model;

static size_t
model_first(const model *m)
{
    size_t first = 0;
    for (size_t i = 1; i < m->n; i++) {
        if (before(m->armed[i], m->armed[first])) {
            first = i;
        }
    }
    return first;
}

static void
model_remove(model *m, const entry *e)
{
    size_t i = 0;
    while (i < m->n && m->armed[i] != e) {
        i++;
    }
    CHECK(i < m->n);
    m->armed[i] = m->armed[--m->n];
}

static int64_t
any_deadline(int scale)
{
    switch (scale) {
    case 0:
        return (int64_t)any_below(5);
    case 1:
        return 1000000 + (int64_t)any_below(1000000);
    case 2:
        return (int64_t)any64();
    default:
        return any_below(2) ? INT64_MIN + (int64_t)any_below(3) : INT64_MAX - (int64_t)any_below(3);
    }
}

static void
arm_any(af_heap *h, model *m, entry *e, int scale)
{
    static uint64_t order;
    e->when = any_deadline(scale);
    e->order = order++;
    CHECK_EQ(af_heap_arm(h, &e->timer, e->when), 0);
    m->armed[m->n++] = e;
}

static void
heap_as_an_array(int scale)
{
    enum { TIMERS = 200, STEPS = 30000 };
    af_heap h;
    entries e = entries_new(TIMERS);
    model m = {e.sorted, 0};
    int filling = 1, taken = 0;
    af_heap_init(&h);
    for (int step = 0; step < STEPS; step++) {
        if (any_below(300) == 0) {
            filling = !filling;
        }
        entry *it = &e.all[any_below(TIMERS)];
        unsigned what = (unsigned)any_below(100);
        if (what < (filling ? 80u : 40u)) {
            if (!af_timer_armed(&it->timer)) {
                arm_any(&h, &m, it, scale);
            }
        }
        else if (what < 85) {
            if (af_timer_armed(&it->timer)) {
                model_remove(&m, it);
            }
            af_heap_disarm(&h, &it->timer);
            CHECK(!af_timer_armed(&it->timer));
        }
        else if (what < 87) {
            if (m.n > 0) {
                CHECK_EQ(af_heap_next(&h), m.armed[model_first(&m)]->when);
            }
        }
        else if (what < 98) {
            int64_t now = any_deadline(scale);
            size_t first = model_first(&m);
            af_timer *t = af_heap_pop_due(&h, now);
            if (m.n > 0 && m.armed[first]->when <= now) {
                CHECK(t == &m.armed[first]->timer);
                CHECK(!af_timer_armed(t));
                model_remove(&m, entry_of(t));
            }
            else {
                CHECK(t == NULL);
            }
        }
        else {
            /* whenever it gives any, it gives all that are due; the best chance of it is a turn with only new ones */
            if (any_below(4) == 0) {
                while (m.n > 0) {
                    af_heap_disarm(&h, &m.armed[--m.n]->timer);
                }
                for (size_t i = any_below(TIMERS - 60); i < TIMERS; i++) {
                    arm_any(&h, &m, &e.all[i], scale);
                }
            }
            int64_t now = any_below(2) ? INT64_MAX : any_deadline(scale);
            size_t n = 0;
            const af_heap_slot *slots = af_heap_take_due(&h, now, &n);
            CHECK(slots == NULL || n > 0);
            for (size_t i = 0; slots != NULL && i < n; i++) {
                size_t first = model_first(&m);
                CHECK(slots[i].timer == &m.armed[first]->timer && slots[i].when <= now);
                slots[i].timer->pos = 0;
                model_remove(&m, m.armed[first]);
            }
            CHECK(slots == NULL || m.n == 0 || m.armed[model_first(&m)]->when > now);
            taken += slots != NULL;
        }
        int64_t now = any_deadline(scale);
        CHECK_EQ(af_heap_is_due(&h, now), m.n > 0 && m.armed[model_first(&m)]->when <= now);
        CHECK_EQ(af_heap_len(&h), m.n);
        check_sane(&h);
    }
    CHECK(taken > 0);
    sort(m.armed, m.n);
    check_popped(&h, m.armed, m.n);
    af_heap_fini(&h);
    entries_free(&e);
}

static void
test_as_an_array(void)
{
    for (int scale = 0; scale < 4; scale++) {
        heap_as_an_array(scale);
    }
}

/* ---- all at once ----------------------------------------------------------------------------------------------- */

static void
fill(entries *e, int64_t from, uint64_t spread)
{
    for (size_t i = 0; i < e->n; i++) {
        e->all[i].when = (int64_t)((uint64_t)from + (spread == UINT64_MAX ? any64() : any64() % (spread + 1)));
    }
}

/* Ranges of deadlines of every width, each digit of the sort and the edges between two of them. */
static void
test_sorted_as_qsort_does(void)
{
    af_heap h;
    entries e = entries_new(500);
    af_heap_init(&h);
    for (unsigned bits = 0; bits <= 64; bits++) {
        for (int around = -1; around <= 1; around++) {
            uint64_t spread = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) + (uint64_t)(int64_t)around;
            /* the range has to end before the numbers do; both halves of them get their turn */
            int64_t from = any_below(2) || spread > INT64_MAX ? INT64_MIN : -(int64_t)(spread / 2);
            fill(&e, from, spread);
            if (any_below(2)) {     /* the ends themselves */
                e.all[any_below(e.n)].when = from;
                e.all[any_below(e.n)].when = (int64_t)((uint64_t)from + spread);
            }
            arm_all(&h, &e);
            int64_t last = e.sorted[e.n - 1]->when;
            check_taken(&h, any_below(2) ? last : any_below(2) ? INT64_MAX : e.sorted[300]->when, e.sorted, e.n);
        }
    }
    af_heap_fini(&h);
    entries_free(&e);
}

static void
test_taken_only_when_they_are_many(void)
{
    af_heap h;
    int taken = 0;
    for (size_t n = 1; n <= 300; n++) {
        entries e = entries_new(n);
        af_heap_init(&h);
        fill(&e, 100, n / 2);
        arm_all(&h, &e);
        if (taken || n >= 64) {
            taken = 1;
            check_taken(&h, 1000, e.sorted, n);
        }
        else {
            check_not_taken(&h, 1000);
            check_popped(&h, e.sorted, n);
        }
        af_heap_fini(&h);
        entries_free(&e);
    }
}

/* Some are due, the others stay: most of them, few of them. */
static void
test_some_are_due(void)
{
    af_heap h;
    entries e = entries_new(400);
    af_heap_init(&h);
    for (int turn = 0; turn < 400; turn++) {
        enum { ORDERED, ALL_BUT_ONE, DUE_ONES, RANDOM } kind = turn % 4;
        fill(&e, 0, 399);
        for (size_t i = 0; i < e.n; i++) {
            if (kind == ORDERED || kind == ALL_BUT_ONE) {
                e.all[i].when = (int64_t)i;
            }
            else if (kind == DUE_ONES && e.all[i].when <= turn) {
                e.all[i].when = (int64_t)i * turn / 400;
            }
        }
        if (kind == ALL_BUT_ONE) {
            e.all[any_below(e.n)].when = (int64_t)any_below(400);
        }
        arm_all(&h, &e);
        int64_t now = turn, first = e.sorted[0]->when;
        CHECK_EQ(af_heap_is_due(&h, now), first <= now);
        CHECK_EQ(h.nheap, 0);       /* asking brings no order into them */
        if (e.sorted[e.n / 2]->when <= now) {
            check_taken(&h, now, e.sorted, e.n);
        }
        else {
            if (first > now) {
                check_not_taken(&h, now);
            }
            check_popped(&h, e.sorted, e.n);
        }
    }
    af_heap_fini(&h);
    entries_free(&e);
}

/* One older than a turn, or one that has been moved about, and it is a matter for the heap. */
static void
test_not_taken_when_that_would_be_wrong(void)
{
    af_heap h;
    entries e = entries_new(200), left = entries_new(200);
    af_timer old = {0};
    af_heap_init(&h);

    CHECK_EQ(af_heap_arm(&h, &old, 0), 0);
    CHECK_EQ(af_heap_next(&h), 0);
    fill(&e, 10, 50);
    arm_all(&h, &e);
    check_not_taken(&h, 1000);
    CHECK(af_heap_pop_due(&h, 1000) == &old);
    check_popped(&h, e.sorted, e.n);

    for (size_t gone = 0; gone < e.n; gone++) {
        int ties = any_below(2) == 0;
        fill(&e, 10, ties ? 0 : 50);
        arm_all(&h, &e);
        af_heap_disarm(&h, &e.all[gone].timer);
        left.n = 0;
        for (size_t i = 0; i < e.n; i++) {
            if (e.sorted[i] != &e.all[gone]) {
                left.sorted[left.n++] = e.sorted[i];
            }
        }
        if (gone + 2 >= e.n) {      /* nothing was moved, or nothing past another */
            check_taken(&h, 1000, left.sorted, left.n);
        }
        else {
            check_not_taken(&h, 1000);
            check_popped(&h, left.sorted, left.n);
        }
    }
    af_heap_fini(&h);
    entries_free(&e);
    entries_free(&left);
}

static void
test_armed_again_after_all_were_taken(void)
{
    af_heap h;
    entries e = entries_new(1000);
    af_heap_init(&h);
    for (int turn = 0; turn < 20; turn++) {
        e.n = 64 + any_below(900);
        fill(&e, turn * 1000, any_below(3) ? 2000 : 0);
        arm_all(&h, &e);
        if (any_below(2)) {
            check_taken(&h, INT64_MAX, e.sorted, e.n);
        }
        else {
            check_popped(&h, e.sorted, e.n);
        }
    }
    af_heap_fini(&h);
    entries_free(&e);
}

/* ---- a million ------------------------------------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
enum { MANY = 200000 };
#else
enum { MANY = 1000000 };
#endif

static void
test_many(void)
{
    af_heap h;
    entries e = entries_new(MANY);
    af_heap_init(&h);
    fill(&e, INT64_C(4000000000000000000), MANY / 2);
    arm_all(&h, &e);
    check_taken(&h, INT64_MAX, e.sorted, e.n);

    fill(&e, INT64_MIN, UINT64_MAX);
    arm_all(&h, &e);
    for (size_t i = 0; i < e.n; i++) {
        CHECK(af_heap_pop_due(&h, INT64_MAX) == &e.sorted[i]->timer);
    }
    CHECK_EQ(af_heap_len(&h), 0);
    check_sane(&h);
    CHECK(h.cap_heap < MANY / 100);     /* given back */
    af_heap_fini(&h);
    entries_free(&e);
}

/* All but a few are disarmed in any order. */
static void
test_many_that_are_disarmed(void)
{
    af_heap h;
    entries e = entries_new(100000);
    af_heap_init(&h);
    fill(&e, 0, e.n);
    arm_all(&h, &e);
    CHECK_EQ(af_heap_next(&h), e.sorted[0]->when);
    size_t left = e.n, most = h.cap_heap;
    for (size_t i = 0; i < e.n; i++) {
        if (e.all[i].order % 64 != 7) {
            af_heap_disarm(&h, &e.all[i].timer);
            left--;
        }
    }
    CHECK_EQ(af_heap_len(&h), left);
    CHECK(h.cap_heap < most / 2);
    check_sane(&h);
    for (size_t i = 0; i < e.n; i++) {
        if (e.sorted[i]->order % 64 == 7) {
            CHECK(af_heap_pop_due(&h, INT64_MAX) == &e.sorted[i]->timer);
        }
    }
    CHECK_EQ(af_heap_len(&h), 0);
    af_heap_fini(&h);
    entries_free(&e);
}

/* The staging area of a burst goes as well, a half each turn. */
static void
test_the_staging_area_is_given_back(void)
{
    af_heap h;
    entries e = entries_new(50000);
    af_timer t = {0};
    af_heap_init(&h);
    arm_all(&h, &e);
    size_t most = h.cap_staged;
    CHECK(most >= e.n);
    check_popped(&h, e.sorted, e.n);
    for (int turn = 0; turn < 20; turn++) {
        CHECK_EQ(af_heap_arm(&h, &t, turn), 0);
        CHECK(af_heap_pop_due(&h, turn) == &t);
    }
    CHECK(h.cap_staged < most / 16);
    check_sane(&h);
    af_heap_fini(&h);
    entries_free(&e);
}

/* ---- no memory ------------------------------------------------------------------------------------------------- */

static void
test_no_memory_to_arm(void)
{
    enum { N = 5000 };
    af_heap h;
    entries e = entries_new(N);
    size_t refused = 0;
    af_heap_init(&h);
    fill(&e, 0, 100);
    for (size_t i = 0; i < N; i++) {
        /* no allocation succeeds, then one, so that each of the two arrays is the one that lacks room */
        for (long allowed = 0;; allowed++) {
            check_allocations = allowed;
            int rc = af_heap_arm(&h, &e.all[i].timer, e.all[i].when);
            if (rc == 0) {
                break;
            }
            refused++;
            CHECK_EQ(rc, -ENOMEM);
            CHECK(allowed < 2);
            CHECK(!af_timer_armed(&e.all[i].timer));
            CHECK_EQ(af_heap_len(&h), i);
            check_sane(&h);
        }
        e.all[i].order = i;
        e.sorted[i] = &e.all[i];
        check_allocations = 0;
        if (any_below(100) == 0) {
            (void)af_heap_next(&h);         /* which needs none */
        }
    }
    CHECK(refused > 2);
    sort(e.sorted, N);
    check_popped(&h, e.sorted, N);      /* nor does this; and shrinking may fail */
    check_allocations = -1;
    af_heap_fini(&h);
    entries_free(&e);
}

static void
test_no_memory_to_sort(void)
{
    af_heap h;
    entries e = entries_new(1000);
    af_heap_init(&h);
    for (int64_t now = 200; now <= 400; now += 100) {       /* with a rest and without */
        fill(&e, 0, 300);
        arm_all(&h, &e);
        check_allocations = 0;
        check_not_taken(&h, now);
        CHECK(af_heap_is_due(&h, now));
        af_heap_disarm(&h, &e.sorted[500]->timer);
        check_sane(&h);
        memmove(&e.sorted[500], &e.sorted[501], 499 * sizeof(e.sorted[0]));
        check_popped(&h, e.sorted, 999);
        check_allocations = -1;
    }
    for (size_t i = 0; i < e.n; i++) {
        e.all[i].when = (int64_t)i / 3;
    }
    arm_all(&h, &e);
    check_allocations = 0;
    check_taken(&h, INT64_MAX, e.sorted, e.n);      /* in order already: nothing to sort */
    check_allocations = -1;
    af_heap_fini(&h);
    entries_free(&e);
}

int
main(int argc, char **argv)
{
    check_begin(argc, argv);
    RUN(test_none);
    RUN(test_due_when_its_time_has_come_and_not_before);
    RUN(test_the_heap_does_not_see_what_goes_at_once);
    RUN(test_any_one_may_be_disarmed);
    RUN(test_emptied_by_any);
    RUN(test_as_an_array);
    RUN(test_sorted_as_qsort_does);
    RUN(test_taken_only_when_they_are_many);
    RUN(test_some_are_due);
    RUN(test_not_taken_when_that_would_be_wrong);
    RUN(test_armed_again_after_all_were_taken);
    RUN(test_many);
    RUN(test_many_that_are_disarmed);
    RUN(test_the_staging_area_is_given_back);
    RUN(test_no_memory_to_arm);
    RUN(test_no_memory_to_sort);
    return 0;
}
