/* Keys of the memory: what of the salience depends on the microstates alone, W_k m / |W_k m|; g comes with the score.

   A `lazy` learner, one of many slots, does not make all keys anew whenever parameters change. It keeps unit keys u made
   with an older W_k, the base, and knows how far the score can have moved since: with x = |W_k - base| |m| / |base m|, two
   vectors that differ by at most x times the length of one of them have directions that differ by at most 2 x / (2 - x). So
   a score lies within g cos(u, q) +- |g| (8/7 x + rounding) as long as x < 1/4. Slots whose upper end is below the k_top-th
   greatest lower end cannot be among the k_top; the few others get their exact keys, and what is chosen and with what
   weight is, to the last bit, what it would be with all keys exact. Once the exact keys made since cost as much as making
   all keys anew, that is done.

   A stream with more slots in doubt than there is room for, after a great change or with very many equal microstates, is
   `plain` for some blocks: all its keys are exact, as those of a learner of few slots always are. */

#include "learner.h"

#define EMPTY ((real)-1e30)    /* score of an empty slot */
#define SHORTEST ((real)1e-6)  /* shorter vectors are not stretched to length 1 */
#define KEY_ROWS 64            /* keys made together: what they are made of and they themselves stay in the cache */
#define UNBOUNDED ((real)1e30) /* stretch of a key so short that nothing is known of where it turns */
#define PLAIN_BLOCKS 16        /* for how many blocks a stream is plain */
#define FAR 0.25               /* greatest x for which the bound above is used */
#define UNIT_ROUNDING (sizeof(real) == 4 ? 6e-8 : 1.2e-16)

static inline real length_of(int64_t count, const real *v)
{
    const real length = (real)sqrt((double)dot(count, v, v));
    return length < SHORTEST ? SHORTEST : length;
}

/* How many slots of stream b come before the empty ones at the end. Slots are filled in rising order, and emptied all at
   once: before that place there are none. */
static int64_t count_filled(const Learner *l, int64_t b)
{
    const uint8_t *empty = l->slot_empty + b * (l->slots + 1);
    int64_t filled = l->slots;
    while (filled && empty[filled - 1]) filled--;
    return filled;
}

/* Whether a key of slots `first` to `last` of stream b belongs to a microstate that has gone. */
static int any_outdated(const Learner *l, int64_t b, int64_t first, int64_t last)
{
    const int64_t *was = l->key_stamp + b * l->slots, *is = l->slot_stamp + b * (l->slots + 1);
    for (int64_t i = first; i < last; i++)
        if (was[i] != is[i]) return 1;
    return 0;
}

/* Whether the keys of stream b are of length 1 and by the base, and not exact. */
static int by_base(const Learner *l, int64_t b) { return l->lazy && !l->plain[b]; }

/* Makes the keys of `rows` slots of stream b from `first` on. */
static void make_keys(const Learner *l, int64_t b, int64_t first, int64_t rows)
{
    const int64_t n = l->n, place = b * (l->slots + 1) + first, slot = b * l->slots + first;
    const real *m = l->slot_m + place * n;
    const int base = by_base(l, b);
    real *key = l->keys + slot * n;
    memset(key, 0, sizeof(real) * rows * n);
    times_packed(rows, n, n, m, n, base ? l->packed_base : l->packed_W_k, key, n);
    for (int64_t i = 0; i < rows; i++, key += n, m += n) {
        const real length = length_of(n, key);
        scale_row(n, 1 / length, key);
        l->key_norm[slot + i] = length;
        if (base) l->stretch[slot + i] = length < 2 * SHORTEST ? UNBOUNDED : length_of(n, m) / length;
    }
    memcpy(l->key_stamp + slot, l->slot_stamp + place, sizeof(int64_t) * rows);
}

/* How far W_k is from the base (Frobenius norm, which is not less than the spectral norm), and how long. */
static void measure_drift(const Learner *l)
{
    double apart = 0, size = 0;
    for (int64_t i = 0; i < l->n * l->n; i++) {
        const double w = l->W_k[i], difference = w - l->base_W_k[i];
        apart += difference * difference;
        size += w * w;
    }
    l->drift[0] = sqrt(apart);
    l->drift[1] = sqrt(size);
}

/* Before a block of a lazy learner: forgets exact keys. Returns whether all keys are to be made anew, by a new base. */
static int64_t renew_base(const Learner *l, int64_t parameters, int64_t memory)
{
    int64_t filled = 0;
    for (int64_t b = 0; b < l->streams; b++) {
        for (int64_t j = 0; j < l->exact_count[b]; j++) l->exact_at[b * l->slots + l->exact_slot[b * l->room + j]] = 0;
        l->exact_count[b] = 0;
        filled += l->filled[b];
    }
    const int64_t all = memory || (parameters && l->spent[0] >= filled);
    if (all) {
        memcpy(l->base_W_k, l->W_k, sizeof(real) * l->n * l->n);
        pack(l->n, l->n, l->base_W_k, l->packed_base);
        l->spent[0] = 0;
    }
    measure_drift(l);
    return all;
}

/* What of recall is constant within a block: how many slots are filled, and their keys: all of them if `parameters` or the
   `memory` have changed, this by another hand, otherwise those near a microstate written since. */
void sab_refresh(const Learner *l, int64_t parameters, int64_t memory)
{
    for (int64_t b = 0; b < l->streams; b++) l->filled[b] = count_filled(l, b);
    l->key_sharpness[0] = l->sharpness[0];
    const int64_t renewed = l->lazy ? renew_base(l, parameters, memory) : 0;
    for (int64_t b = 0; b < l->streams; b++) {
        const int64_t filled = l->filled[b], was_plain = l->lazy && l->plain[b];
        if (was_plain && parameters) l->plain[b]--;
        const int64_t all = by_base(l, b) ? renewed || was_plain : parameters || memory;
        if (all)
            for (int64_t i = filled; i < l->slots; i++) l->key_stamp[b * l->slots + i] = -1;
        for (int64_t first = 0; first < filled; first += KEY_ROWS) {
            const int64_t rows = least(KEY_ROWS, filled - first);
            if (all || any_outdated(l, b, first, first + rows)) make_keys(l, b, first, rows);
        }
    }
}

/* More slots of stream b are in doubt than there is room for: all its keys become exact. */
static void become_plain(const Learner *l, int64_t b)
{
    l->plain[b] = PLAIN_BLOCKS;
    l->spent[0] += l->filled[b];
    for (int64_t first = 0; first < l->filled[b]; first += KEY_ROWS)
        make_keys(l, b, first, least(KEY_ROWS, l->filled[b] - first));
}

/* The exact key of slot i of stream b, made if need be; valid until the next is asked for. */
static const real *exact_key(const Learner *l, int64_t b, int64_t i)
{
    const int64_t n = l->n;
    int64_t *at = l->exact_at + b * l->slots + i;
    if (*at) return l->exact + (b * l->room + *at - 1) * n;
    /* The last place is for those that find no room: it is overwritten again and again. */
    const int64_t here = least(l->exact_count[b], l->room - 1);
    real *key = l->exact + (b * l->room + here) * n;
    memset(key, 0, sizeof(real) * n);
    times_packed(1, n, n, l->slot_m + (b * (l->slots + 1) + i) * n, n, l->packed_W_k, key, n);
    scale_row(n, 1 / length_of(n, key), key);
    l->spent[0]++;
    if (here < l->room - 1) {
        l->exact_slot[b * l->room + here] = i;
        *at = ++l->exact_count[b];
    }
    return key;
}
