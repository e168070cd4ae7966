/* Large pieces of work, shared out among threads.

   A piece computes numbers of its own, in the same way whoever takes it: results do not depend on how many threads there
   are. Whoever is free takes the next piece, so that a thread the machine holds up delays the piece it is at and no other.
   The caller works too, and waits for none that has not begun. */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

/* Multiplications, or work that takes as long, from which waking the others pays: half a millisecond. */
#define WORTH_SHARING ((int64_t)1 << 24)
/* Looks before a thread that has nothing to do goes to sleep: some tens of microseconds. */
#define PATIENCE 2000
#define MOST_THREADS 256

typedef void (*Piece)(const void *task, int64_t piece);

static struct {
    pthread_mutex_t caller;    /* held by who shares something out */
    pthread_mutex_t door;      /* guards all below that is not atomic */
    pthread_cond_t begun, done;
    int open;                  /* whether a helper may still join */
    int64_t helpers;           /* threads there are beside the caller */
    Piece piece;
    const void *task;
    int64_t pieces;
    _Atomic int64_t wanted;    /* how many helpers may join */
    _Atomic int64_t next;      /* the first piece that nobody has taken */
    _Atomic int64_t inside;    /* helpers at work */
    _Atomic int64_t round;     /* how often something has been shared out */
} pool = {.caller = PTHREAD_MUTEX_INITIALIZER, .door = PTHREAD_MUTEX_INITIALIZER,
          .begun = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static inline void rest(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_pieces(Piece piece, const void *task, int64_t pieces)
{
    for (int64_t i; (i = atomic_fetch_add(&pool.next, 1)) < pieces;) piece(task, i);
}

/* A helper's life: its number is in `self`. */
static void *help(void *self)
{
    int64_t seen = 0;
    for (;;) {
        for (int look = 0; look < PATIENCE && atomic_load(&pool.round) == seen; look++) rest();
        pthread_mutex_lock(&pool.door);
        while (atomic_load(&pool.round) == seen) pthread_cond_wait(&pool.begun, &pool.door);
        seen = atomic_load(&pool.round);
        const int joins = pool.open && (intptr_t)self < atomic_load(&pool.wanted);
        const Piece piece = pool.piece;
        const void *task = pool.task;
        const int64_t pieces = pool.pieces;
        if (joins) atomic_fetch_add(&pool.inside, 1);
        pthread_mutex_unlock(&pool.door);
        if (!joins) continue;
        take_pieces(piece, task, pieces);
        pthread_mutex_lock(&pool.door);
        if (atomic_fetch_sub(&pool.inside, 1) == 1) pthread_cond_signal(&pool.done);
        pthread_mutex_unlock(&pool.door);
    }
    return NULL;
}

/* A process that was forked has none of its parent's threads. */
static void start_over(void)
{
    pthread_mutex_init(&pool.caller, NULL);
    pthread_mutex_init(&pool.door, NULL);
    pthread_cond_init(&pool.begun, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.helpers = 0;
    pool.open = 0;
    atomic_store(&pool.inside, 0);
    atomic_store(&pool.round, 0);
}

/* Starts the helpers that are missing; one that cannot be started is done without. */
static void hire(void)
{
    static int prepared;
    const int64_t wanted = atomic_load(&pool.wanted);
    if (pool.helpers >= wanted) return;
    if (!prepared) prepared = !pthread_atfork(NULL, NULL, start_over);
    /* Signals are for the threads of Python. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    while (prepared && pool.helpers < wanted && !pthread_create(&thread, NULL, help, (void *)(intptr_t)pool.helpers)) {
        pthread_detach(thread);
        pool.helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Henceforth large pieces of work are done by so many threads, the caller among them. */
void sab_use_threads(int64_t threads)
{
    atomic_store(&pool.wanted, (threads < MOST_THREADS ? threads : MOST_THREADS) - 1);
}

/* piece(task, i) for every i below `pieces`, in any order and by several threads; `work`: of all of them, in
   multiplications. */
static void share(int64_t pieces, int64_t work, Piece piece, const void *task)
{
    if (atomic_load(&pool.wanted) < 1 || pieces < 2 || work < WORTH_SHARING || pthread_mutex_trylock(&pool.caller)) {
        for (int64_t i = 0; i < pieces; i++) piece(task, i);
        return;
    }
    pthread_mutex_lock(&pool.door);
    hire();
    pool.piece = piece;
    pool.task = task;
    pool.pieces = pieces;
    atomic_store(&pool.next, 0);
    pool.open = 1;
    atomic_fetch_add(&pool.round, 1);
    pthread_cond_broadcast(&pool.begun);
    pthread_mutex_unlock(&pool.door);
    take_pieces(piece, task, pieces);
    for (int look = 0; look < PATIENCE && atomic_load(&pool.inside); look++) rest();
    pthread_mutex_lock(&pool.door);
    pool.open = 0;
    while (atomic_load(&pool.inside)) pthread_cond_wait(&pool.done, &pool.door);
    pthread_mutex_unlock(&pool.door);
    pthread_mutex_unlock(&pool.caller);
}
