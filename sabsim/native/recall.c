/* Recall with the cosine salience and softmax over the k_top: the choice, the summary, and their VJPs. */

#include "learner.h"

/* The best so far in a choice of `reads` slots: greatest `choice` first, of equal ones the first that came. */
typedef struct {
    int64_t reads;
    int64_t held;
    int64_t *index;
    real *score;
    real *choice;
} Best;

static inline void consider(Best *best, int64_t i, real a, real choice)
{
    const int64_t last = best->reads - 1;
    if (best->held == best->reads && !(choice > best->choice[last])) return;
    int64_t k = best->held < best->reads ? best->held++ : last;
    for (; k > 0 && choice > best->choice[k - 1]; k--) {
        best->choice[k] = best->choice[k - 1];
        best->score[k] = best->score[k - 1];
        best->index[k] = best->index[k - 1];
    }
    best->choice[k] = choice;
    best->score[k] = a;
    best->index[k] = i;
}

/* Fills `bound` with what no slot's choice exceeds; returns what the choice of the last one to be read is at least. */
static real bound_choices(const Learner *l, int64_t b, const real *q, real sharpness, const real *noise, Best *best)
{
    const int64_t n = l->n, filled = l->filled[b];
    const real *key = l->keys + b * l->slots * n, *stretch = l->stretch + b * l->slots;
    const double rounding = 4 * n * UNIT_ROUNDING, size = fabs((double)sharpness * l->key_sharpness[0]);
    const real g = sharpness * l->key_sharpness[0], near = (real)(FAR / (l->drift[0] + 1e-30));
    const real slope = (real)(size * (8. / 7 * l->drift[0] + rounding * l->drift[1]) * (1 + 1e-6));
    const real least_slack = (real)(size * rounding + 8 * UNIT_ROUNDING * (size + 100)), most_slack = (real)(2.1 * size);
    best->held = 0;
    for (int64_t i = 0; i < filled; i++, key += n) {
        const real by = g * dot(n, key, q) + (noise ? noise[i] : 0);
        const real slack = least_slack + (stretch[i] < near ? slope * stretch[i] : most_slack);
        l->bound[i] = by + slack;
        consider(best, i, 0, by - slack);
    }
    return best->choice[best->held - 1];
}

/* `score` (rows) becomes the keys' (rows, n) product with q. Four keys at a time: alone, each sum would wait for the one before. */
static void dot_rows(int64_t rows, int64_t n, const real *key, const real *q, real *score)
{
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4, key += 4 * n) {
        vec sum[4] = {{0}, {0}, {0}, {0}};
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) {
            const vec right = load(q + j);
            for (int64_t r = 0; r < 4; r++) sum[r] += load(key + r * n + j) * right;
        }
        for (int64_t r = 0; r < 4; r++) {
            score[i + r] = sum_of(sum[r]);
            for (int64_t l = j; l < n; l++) score[i + r] += key[r * n + l] * q[l];
        }
    }
    for (; i < rows; i++, key += n) score[i] = dot(n, key, q);
}

/* The K slots of stream b that score highest against the unit query q: `index` and their scores `score` (K), which has room
   for K numbers more. `noise` (S), unless NULL, is added for the choice alone. Empty slots, which all lie behind the filled
   ones, take the places that are left. */
static void choose_slots(
    const Learner *l, int64_t b, const real *q, real sharpness, const real *noise, int64_t *index, real *score)
{
    const int64_t n = l->n, filled = l->filled[b];
    const real *key = l->keys + b * l->slots * n;
    Best best = {l->reads, 0, index, score, score + l->reads};
    real threshold = 0;
    if (by_base(l, b) && filled) {
        threshold = bound_choices(l, b, q, sharpness, noise, &best);
        int64_t in_doubt = 0;
        for (int64_t i = 0; i < filled; i++) in_doubt += !(l->bound[i] < threshold);
        if (in_doubt > l->room) become_plain(l, b);
    }
    const int base = by_base(l, b);
    const real g = sharpness * l->key_sharpness[0];
    best.held = 0;
    if (!base) dot_rows(filled, n, key, q, l->bound);
    for (int64_t i = 0; i < filled; i++) {
        if (base && l->bound[i] < threshold) continue;
        const real a = g * (base ? dot(n, exact_key(l, b, i), q) : l->bound[i]);
        consider(&best, i, a, noise ? a + noise[i] : a);
    }
    for (int64_t i = filled; best.held < best.reads; i++) consider(&best, i, EMPTY, EMPTY);
}

/* Whether what is read must be kept: a chain longer than a block meets microstates that may have left their slots. Within a
   block they stay where they are, and a copy of every read would cost more than the reads. */
static int keeps_reads(const Learner *l) { return l->k_trunc > l->block; }

/* Reads at ring position t: chooses K slots by score (with noise and at a temperature in the streams that explore, if
   `noisy`), writes the rings m, index, weight, stamp, scale and the summary s. */
static void read_slots(const Learner *l, int64_t t, int64_t noisy)
{
    const int64_t n = l->n, slots = l->slots, reads = l->reads;
    real *q = l->q + t * l->streams * n;
    memset(q, 0, sizeof(real) * l->streams * n);
    times_packed(l->streams, n, n, l->h_hat + t * l->streams * n, n, l->packed_W_q, q, n);
    for (int64_t b = 0; b < l->streams; b++, q += n) {
        const int64_t row = t * l->streams + b;
        int64_t *index = l->index + row * reads;
        real *weight = l->weight + row * reads, *s = l->s + row * n, sum = 0;
        l->q_norm[row] = length_of(n, q);
        scale_row(n, 1 / l->q_norm[row], q);
        const int explores = noisy && l->exploring[b] != 0;
        const real sharpness = explores ? l->exploring_sharpness[b] : 1;
        const real *noise = explores ? l->noise + ((t - l->history) * l->streams + b) * slots : NULL;
        real *score = l->score;
        choose_slots(l, b, q, sharpness, noise, index, score);
        real most = score[0];
        for (int64_t k = 1; k < reads; k++) most = score[k] > most ? score[k] : most;
        for (int64_t k = 0; k < reads; k++) sum += weight[k] = exponential(score[k] - most);
        memset(s, 0, sizeof(real) * n);
        for (int64_t k = 0; k < reads; k++) {
            const int64_t slot = b * (slots + 1) + index[k];
            weight[k] = score[k] > EMPTY / 2 ? weight[k] / sum : 0;
            const real *m = l->slot_m + slot * n;
            if (keeps_reads(l)) memcpy(l->m + (row * reads + k) * n, m, sizeof(real) * n);
            add_scaled(n, weight[k], m, s);
            l->stamp[row * reads + k] = l->slot_empty[slot] ? -1 : l->slot_stamp[slot];
        }
        l->scale[row] = sharpness;
    }
}

/* Where the microstate is that ring row `row` of stream b has read as its k-th. */
static const real *read_m(const Learner *l, int64_t b, int64_t row)
{
    return keeps_reads(l) ? l->m + row * l->n : l->slot_m + (b * (l->slots + 1) + l->index[row]) * l->n;
}

/* Before the learner's state is read: what the block's steps have read, as if it had been copied, and nothing else. */
void sab_settle(const Learner *l, int64_t position)
{
    if (keeps_reads(l)) return;
    const int64_t n = l->n, per_step = l->streams * l->reads;
    memset(l->m, 0, sizeof(real) * (l->history + l->block + 1) * per_step * n);
    for (int64_t row = l->history * per_step; row < position * per_step; row++)
        memcpy(l->m + row * n, read_m(l, row / l->reads % l->streams, row), sizeof(real) * n);
}

/* The unit key of the u-th microstate of the list below. */
static const real *held_key(const Learner *l, int64_t u)
{
    return l->held_slot[u] < 0 ? l->held_k + u * l->n : l->keys + l->held_slot[u] * l->n;
}

/* Makes the keys of the microstates `from` to `to` of the list. */
static void make_held_keys(const Learner *l, int64_t from, int64_t to)
{
    if (from == to) return;
    const int64_t n = l->n;
    real *key = l->held_k + from * n;
    memset(key, 0, sizeof(real) * (to - from) * n);
    times_packed(to - from, n, n, l->held_m + from * n, n, l->packed_W_k, key, n);
    for (int64_t u = from; u < to; u++, key += n) {
        l->held_norm[u] = length_of(n, key);
        scale_row(n, 1 / l->held_norm[u], key);
    }
}

/* Lists the different microstates that the chain from ring position `first` on has read: held_stamp, held_m and their unit
   keys, which are those of the memory if these are `fresh`; which[] says which of them a read is (-1: an empty slot).
   Returns how many. Recalls repeat themselves, and the memory is constant within a block: this is a fraction of the
   reads. */
static int64_t list_held(const Learner *l, int64_t first, int64_t fresh)
{
    const int64_t n = l->n, reads = l->reads;
    int64_t count = 0, made = 0;
    for (int64_t b = 0; b < l->streams; b++) {
        const int64_t begin = count;
        for (int64_t t = 0; t < l->k_trunc; t++)
            for (int64_t k = 0; k < reads; k++) {
                const int64_t row = ((first + t) * l->streams + b) * reads + k, stamp = l->stamp[row];
                int64_t *which = l->which + (t * l->streams + b) * reads + k, u = begin;
                if (stamp < 0) {
                    *which = -1;
                    continue;
                }
                while (u < count && l->held_stamp[u] != stamp) u++;
                *which = u;
                if (u < count) continue;
                const int64_t slot = b * l->slots + l->index[row];
                const int has_key = fresh && !by_base(l, b) && l->key_stamp[slot] == stamp;
                l->held_stamp[u] = stamp;
                l->held_slot[u] = has_key ? slot : -1;
                memcpy(l->held_m + count++ * n, read_m(l, b, row), sizeof(real) * n);
                if (!has_key) continue;
                l->held_norm[u] = l->key_norm[slot];
                make_held_keys(l, made, u);
                made = count;
            }
    }
    make_held_keys(l, made, count);
    return count;
}

/* The recall's VJP at step t of a chain that begins at `first`: credit dh (B, n) on h becomes that on h_hat; leaves ds, da
   and dq. `second` (w apart) is the readout's credit on s, NULL outside the block. */
static void recall_vjp(const Learner *l, int64_t first, int64_t t, const real *second, int64_t width)
{
    const int64_t n = l->n, reads = l->reads;
    real *dq = l->dq + (first + t) * l->streams * n;
    for (int64_t b = 0; b < l->streams; b++) {
        const int64_t row = (first + t) * l->streams + b, at = t * l->streams + b, *which = l->which + at * reads;
        const real *weight = l->weight + row * reads, *q = l->q + row * n;
        real *ds = l->ds + at * n, *da = l->da + at * reads, *d_unit = dq + b * n, mean = 0;
        memcpy(ds, l->dh + b * n, sizeof(real) * n);
        if (second) add_scaled(n, 1, second + b * width, ds);
        for (int64_t k = 0; k < reads; k++) {
            da[k] = which[k] < 0 ? 0 : weight[k] * dot(n, l->held_m + which[k] * n, ds);
            mean += da[k];
        }
        memset(d_unit, 0, sizeof(real) * n);
        for (int64_t k = 0; k < reads; k++) {
            da[k] = (da[k] - weight[k] * mean) * l->scale[row];
            if (which[k] >= 0) add_scaled(n, da[k] * l->sharpness[0], held_key(l, which[k]), d_unit);
        }
        add_scaled(n, -dot(n, q, d_unit), q, d_unit);
        scale_row(n, 1 / l->q_norm[row], d_unit);
    }
    times_weights(l, l->streams, n, n, dq, l->W_q, n, l->packed_back_W_q, l->dh);
}

/* Takes back the credit of the last block: of the slots that were read, not of all. */
static void forget_credit(const Learner *l, int64_t first)
{
    for (int64_t b = 0; b < l->streams; b++) {
        for (int64_t j = 0; j < l->touches[b]; j++) {
            const int64_t slot = b * l->slots + l->touched[b * l->reads * l->k_trunc + j];
            memset(l->credit + slot * l->n, 0, sizeof(real) * l->n);
            l->best[slot] = -1;
            l->when[slot] = first;
        }
        l->touches[b] = 0;
    }
}

/* Notes that `slot` of stream b has credit, keeping the list in rising order. */
static void touch(const Learner *l, int64_t b, int64_t slot)
{
    int64_t *touched = l->touched + b * l->reads * l->k_trunc, j = l->touches[b]++;
    for (; j > 0 && touched[j - 1] > slot; j--) touched[j] = touched[j - 1];
    touched[j] = slot;
}

/* After the chain: adds the salience's gradient, and leaves the credit on every microstate that is still in its slot. */
static void credit_held(const Learner *l, int64_t first, int64_t count)
{
    const int64_t n = l->n, reads = l->reads, slots = l->slots, row_steps = l->k_trunc * l->streams;
    transposed_times(
        n, n, row_steps, l->dq + first * l->streams * n, n, l->h_hat + first * l->streams * n, n, l->dW_q, n);
    memset(l->held_dk, 0, sizeof(real) * count * n);
    memset(l->held_dm, 0, sizeof(real) * count * n);
    memset(l->held_turn, 0, sizeof(real) * count);
    forget_credit(l, first);
    real sharpness = 0;
    for (int64_t at = 0; at < row_steps; at++) {
        const real *q = l->q + (first * l->streams + at) * n;
        for (int64_t k = 0; k < reads; k++) {
            const int64_t u = l->which[at * reads + k];
            if (u < 0) continue;
            const real da = l->da[at * reads + k], cosine = dot(n, held_key(l, u), q);
            const real stretch = da * l->sharpness[0] / l->held_norm[u];
            const real weight = l->weight[(first * l->streams + at) * reads + k], *ds = l->ds + at * n;
            real *restrict dk = l->held_dk + u * n, *restrict dm = l->held_dm + u * n;
            sharpness += da * cosine;
            l->held_turn[u] -= stretch * cosine;
            for (int64_t j = 0; j < n; j++) {
                dk[j] += stretch * q[j];
                dm[j] += weight * ds[j];
            }
        }
    }
    for (int64_t u = 0; u < count; u++) add_scaled(n, l->held_turn[u], held_key(l, u), l->held_dk + u * n);
    l->dsharpness[0] += sharpness;
    transposed_times(n, n, count, l->held_dk, n, l->held_m, n, l->dW_k, n);
    times(count, n, n, l->held_dk, n, l->W_k, n, l->held_dm, n);
    for (int64_t at = 0; at < row_steps; at++)
        for (int64_t k = 0; k < reads; k++) {
            const int64_t u = l->which[at * reads + k], row = (first * l->streams + at) * reads + k;
            const int64_t b = at % l->streams, slot = b * slots + l->index[row];
            if (u < 0 || l->slot_stamp[slot + b] != l->stamp[row]) continue;
            memcpy(l->credit + slot * n, l->held_dm + u * n, sizeof(real) * n);
            if (l->best[slot] < 0) touch(l, b, l->index[row]);
            if (l->weight[row] > l->best[slot]) {
                l->best[slot] = l->weight[row];
                l->when[slot] = first + at / l->streams;
            }
        }
}
