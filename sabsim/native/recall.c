/* Recall with the cosine salience and softmax over the k_top: keys, the choice, the summary, and their VJPs. */

#include "learner.h"

#define EMPTY ((real)-1e30)    /* score of an empty slot */
#define SHORTEST ((real)1e-6)  /* shorter vectors are not stretched to length 1 */

static inline real length_of(int64_t count, const real *v)
{
    const real length = (real)sqrt((double)dot(count, v, v));
    return length < SHORTEST ? SHORTEST : length;
}

/* The k greatest of `count` values, greatest first, of equal ones the first; always k different places. */
static void greatest(int64_t count, const real *value, int64_t k, int64_t *place)
{
    int64_t held = 0;
    for (int64_t i = 0; i < count; i++) {
        if (held == k && !(value[i] > value[place[k - 1]])) continue;
        int64_t j = held < k ? held++ : k - 1;
        for (; j > 0 && value[i] > value[place[j - 1]]; j--) place[j] = place[j - 1];
        place[j] = i;
    }
}

/* What of recall is constant within a block: keys g W_k m / |W_k m|, and the scores that mask empty slots. */
void sab_refresh(const Learner *l)
{
    const int64_t n = l->n, slots = l->slots;
    for (int64_t b = 0; b < l->streams; b++) {
        real *keys = l->keys + b * slots * n;
        memset(keys, 0, sizeof(real) * slots * n);
        times_packed(slots, n, n, l->slot_m + b * (slots + 1) * n, n, l->packed_W_k, keys, n);
        for (int64_t i = 0; i < slots; i++) {
            scale_row(n, l->sharpness[0] / length_of(n, keys + i * n), keys + i * n);
            l->gap[b * slots + i] = l->slot_empty[b * (slots + 1) + i] ? EMPTY : 0;
        }
    }
}

/* Reads at ring position t: chooses K slots by score (with noise and at a temperature in the streams that explore, if `noisy`), writes the
   rings m, index, weight, stamp, scale and the summary s. */
static void read_slots(const Learner *l, int64_t t, int64_t noisy)
{
    const int64_t n = l->n, slots = l->slots, reads = l->reads;
    const real g = l->sharpness[0] < 0 ? -l->sharpness[0] : l->sharpness[0], scale = g < SHORTEST ? SHORTEST : g;
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
        const real sharpness = explores ? 1 / ((real)l->temperature * scale) : 1;
        const real *noise = explores ? l->noise + ((t - l->history) * l->streams + b) * slots : NULL;
        for (int64_t i = 0; i < slots; i++) {
            l->score[i] = sharpness * dot(n, l->keys + (b * slots + i) * n, q) + l->gap[b * slots + i];
            l->score[slots + i] = explores ? l->score[i] + noise[i] : l->score[i];
        }
        greatest(slots, l->score + slots, reads, index);
        real most = l->score[index[0]];
        for (int64_t k = 1; k < reads; k++) most = l->score[index[k]] > most ? l->score[index[k]] : most;
        for (int64_t k = 0; k < reads; k++) sum += weight[k] = exponential(l->score[index[k]] - most);
        memset(s, 0, sizeof(real) * n);
        for (int64_t k = 0; k < reads; k++) {
            const int64_t slot = b * (slots + 1) + index[k];
            weight[k] = l->score[index[k]] > EMPTY / 2 ? weight[k] / sum : 0;
            real *m = l->m + (row * reads + k) * n;
            memcpy(m, l->slot_m + slot * n, sizeof(real) * n);
            add_scaled(n, weight[k], m, s);
            l->stamp[row * reads + k] = l->slot_empty[slot] ? -1 : l->slot_stamp[slot];
        }
        l->scale[row] = sharpness;
    }
}

/* Lists the different microstates that the chain from ring position `first` on has read: held_row, held_m and their unit
   keys held_k; which[] says which of them a read is (-1: an empty slot). Returns how many. Recalls repeat themselves, and
   the memory is constant within a block: this is a fraction of the reads. */
static int64_t list_held(const Learner *l, int64_t first)
{
    const int64_t n = l->n, reads = l->reads;
    int64_t count = 0;
    for (int64_t b = 0; b < l->streams; b++) {
        const int64_t begin = count;
        for (int64_t t = 0; t < l->k_trunc; t++)
            for (int64_t k = 0; k < reads; k++) {
                const int64_t row = ((first + t) * l->streams + b) * reads + k;
                int64_t *which = l->which + (t * l->streams + b) * reads + k;
                if (l->stamp[row] < 0) {
                    *which = -1;
                    continue;
                }
                int64_t u = begin;
                while (u < count && (l->stamp[l->held_row[u]] != l->stamp[row])) u++;
                if (u == count) {
                    l->held_row[count] = row;
                    memcpy(l->held_m + count++ * n, l->m + row * n, sizeof(real) * n);
                }
                *which = u;
            }
    }
    memset(l->held_k, 0, sizeof(real) * count * n);
    times_packed(count, n, n, l->held_m, n, l->packed_W_k, l->held_k, n);
    for (int64_t u = 0; u < count; u++) {
        l->held_norm[u] = length_of(n, l->held_k + u * n);
        scale_row(n, 1 / l->held_norm[u], l->held_k + u * n);
    }
    return count;
}

/* The recall's VJP at step t of a chain that begins at `first`: credit dh (B, n) on h becomes that on h_hat; leaves ds, da
   and dq. `second` (w apart) is the readout's credit on s, NULL outside the block. */
static void recall_vjp(const Learner *l, int64_t first, int64_t t, const real *second, int64_t width)
{
    const int64_t n = l->n, reads = l->reads;
    real *dq = l->dq + (first + t) * l->streams * n;
    for (int64_t b = 0; b < l->streams; b++) {
        const int64_t row = (first + t) * l->streams + b, at = t * l->streams + b;
        const real *weight = l->weight + row * reads, *q = l->q + row * n;
        real *ds = l->ds + at * n, *da = l->da + at * reads, *d_unit = dq + b * n, mean = 0;
        memcpy(ds, l->dh + b * n, sizeof(real) * n);
        if (second) add_scaled(n, 1, second + b * width, ds);
        for (int64_t k = 0; k < reads; k++) {
            da[k] = weight[k] * dot(n, l->m + (row * reads + k) * n, ds);
            mean += da[k];
        }
        memset(d_unit, 0, sizeof(real) * n);
        for (int64_t k = 0; k < reads; k++) {
            const int64_t u = l->which[at * reads + k];
            da[k] = (da[k] - weight[k] * mean) * l->scale[row];
            if (u >= 0) add_scaled(n, da[k] * l->sharpness[0], l->held_k + u * n, d_unit);
        }
        add_scaled(n, -dot(n, q, d_unit), q, d_unit);
        scale_row(n, 1 / l->q_norm[row], d_unit);
    }
    times(l->streams, n, n, dq, n, l->W_q, n, l->dh, n);
}

/* After the chain: adds the salience's gradient, and leaves the credit on every microstate that is still in its slot. */
static void credit_held(const Learner *l, int64_t first, int64_t count)
{
    const int64_t n = l->n, reads = l->reads, slots = l->slots, row_steps = l->k_trunc * l->streams;
    transposed_times(
        n, n, row_steps, l->dq + first * l->streams * n, n, l->h_hat + first * l->streams * n, n, l->dW_q, n);
    memset(l->held_dk, 0, sizeof(real) * count * n);
    memset(l->held_dm, 0, sizeof(real) * count * n);
    memset(l->credit, 0, sizeof(real) * l->streams * slots * n);
    for (int64_t i = 0; i < l->streams * slots; i++) {
        l->best[i] = -1;
        l->when[i] = first;
    }
    real sharpness = 0;
    for (int64_t at = 0; at < row_steps; at++) {
        const real *q = l->q + (first * l->streams + at) * n;
        for (int64_t k = 0; k < reads; k++) {
            const int64_t u = l->which[at * reads + k];
            if (u < 0) continue;
            const real *unit = l->held_k + u * n, da = l->da[at * reads + k], cosine = dot(n, unit, q);
            const real stretch = da * l->sharpness[0] / l->held_norm[u];
            sharpness += da * cosine;
            add_scaled(n, stretch, q, l->held_dk + u * n);
            add_scaled(n, -stretch * cosine, unit, l->held_dk + u * n);
            add_scaled(n, l->weight[(first * l->streams + at) * reads + k], l->ds + at * n, l->held_dm + u * n);
        }
    }
    l->dsharpness[0] += sharpness;
    transposed_times(n, n, count, l->held_dk, n, l->held_m, n, l->dW_k, n);
    times(count, n, n, l->held_dk, n, l->W_k, n, l->held_dm, n);
    for (int64_t at = 0; at < row_steps; at++)
        for (int64_t k = 0; k < reads; k++) {
            const int64_t u = l->which[at * reads + k], row = (first * l->streams + at) * reads + k;
            const int64_t b = at % l->streams, slot = b * slots + l->index[row];
            if (u < 0 || l->slot_stamp[slot + b] != l->stamp[row]) continue;
            memcpy(l->credit + slot * n, l->held_dm + u * n, sizeof(real) * n);
            if (l->weight[row] > l->best[slot]) {
                l->best[slot] = l->weight[row];
                l->when[slot] = first + at / l->streams;
            }
        }
}
