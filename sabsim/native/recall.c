/* Recall with the cosine salience and softmax over the k_top: queries, summaries, and the VJPs. */

#include "learner.h"

/* Whether what is read must be kept: a chain longer than a block meets microstates that may have left their slots. Within a
   block they stay where they are, and a copy of every read would cost more than the reads. */
static int keeps_reads(const Learner *l) { return l->k_trunc > l->block; }

/* The summary of what stream b reads at ring position t, from the scores of the slots chosen, which become weights. */
static void sum_up(const Learner *l, int64_t t, int64_t b)
{
    const int64_t n = l->n, reads = l->reads, row = t * l->streams + b, *index = l->index + row * reads;
    real *weight = l->weight + row * reads, *s = l->s + row * n, most = weight[0], sum = 0;
    for (int64_t k = 1; k < reads; k++) most = weight[k] > most ? weight[k] : most;
    memset(s, 0, sizeof(real) * n);
    for (int64_t k = 0; k < reads; k++) sum += weight[k] > EMPTY / 2 ? exponential(weight[k] - most) : 0;
    for (int64_t k = 0; k < reads; k++) {
        const int64_t slot = b * (l->slots + 1) + index[k];
        const real *m = l->slot_m + slot * n;
        weight[k] = weight[k] > EMPTY / 2 ? exponential(weight[k] - most) / sum : 0;
        if (keeps_reads(l)) memcpy(l->m + (row * reads + k) * n, m, sizeof(real) * n);
        add_scaled(n, weight[k], m, s);
        l->stamp[row * reads + k] = l->slot_empty[slot] ? -1 : l->slot_stamp[slot];
    }
}

/* Reads at ring position t: chooses K slots by score (with noise and at a temperature in the streams that explore, if
   `noisy`), writes the rings m, index, weight, stamp, scale and the summary s. */
static void read_slots(const Learner *l, int64_t t, int64_t noisy)
{
    const int64_t n = l->n, slots = l->slots, reads = l->reads;
    real *q = l->q + t * l->streams * n;
    memset(q, 0, sizeof(real) * l->streams * n);
    times_packed(l->streams, n, n, l->h_hat + t * l->streams * n, n, l->packed_W_q, q, n);
    for (int64_t b = 0; b < l->streams; b++, q += n) {
        const int64_t row = t * l->streams + b, *index = l->index + row * reads;
        l->q_norm[row] = length_of(n, q);
        scale_row(n, 1 / l->q_norm[row], q);
        const int explores = noisy && l->exploring[b] != 0;
        const real sharpness = explores ? l->exploring_sharpness[b] : 1;
        const real *noise = explores ? l->noise + ((t - l->history) * l->streams + b) * slots : NULL;
        choose_slots(l, b, q, sharpness, noise, l->index + row * reads, l->score);
        memcpy(l->weight + row * reads, l->score, sizeof(real) * reads);
        l->scale[row] = sharpness;
        /* What was chosen arrives while the next stream chooses. */
        for (int64_t k = 0; k < reads; k++) fetch_row(n, l->slot_m + (b * (slots + 1) + index[k]) * n);
        if (b) sum_up(l, t, b - 1);
    }
    sum_up(l, t, l->streams - 1);
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

/* Asks for what stream b of the chain's step t has read. */
static void fetch_reads(const Learner *l, int64_t t, int64_t b)
{
    const int64_t *which = l->which + (t * l->streams + b) * l->reads;
    for (int64_t k = 0; k < l->reads; k++) {
        if (which[k] < 0) continue;
        fetch_row(l->n, l->held_m + which[k] * l->n);
        fetch_row(l->n, held_key(l, which[k]));
    }
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
        if (b + 1 < l->streams) fetch_reads(l, t, b + 1);
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
    const int taught_by_all = l->sharpness[0] < l->taught_until;
    real sharpness = 0;
    for (int64_t at = 0; at < row_steps; at++) {
        const real *q = l->q + (first * l->streams + at) * n;
        if (at + 1 < row_steps) fetch_reads(l, 0, at + 1);
        for (int64_t k = 0; k < reads; k++) {
            const int64_t u = l->which[at * reads + k];
            if (u < 0) continue;
            const real da = l->da[at * reads + k], cosine = dot(n, held_key(l, u), q);
            const real stretch = da * l->sharpness[0] / l->held_norm[u];
            const real weight = l->weight[(first * l->streams + at) * reads + k], *ds = l->ds + at * n;
            real *restrict dk = l->held_dk + u * n, *restrict dm = l->held_dm + u * n;
            if (taught_by_all || l->scale[first * l->streams + at] == 1) sharpness += da * cosine;
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
