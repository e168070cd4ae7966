/* A network with self-attention (Kerg et al. 2020): its step, what it keeps, and the way back through a whole sequence.

   The buffers and what they hold are those of sabsim.attentive.sequence and sabsim.attentive.memory. tanh(q + k_i) of every
   pair of steps is never kept: the way back computes it again. It is had from exp(2 q) and exp(2 k_i), each computed once:

       tanh(q + k) = 1 - 2 r    with r = 1 / (1 + exp(2 q) exp(2 k))    and    tanh'(q + k) = 4 r (1 - r)

   Neither exponential is infinite or 0 (`exponential` clamps: a query or key beyond 43, in double 354, counts as that), so a
   product of them that is gives r = 0 or 1, never NaN. */

#include "learner.h"

/* Packs the attention's weights anew; to be called whenever parameters have changed. */
void sab_attentive_pack(const Learner *l, const Attentive *a)
{
    pack(l->n, l->n, a->V_a, a->packed_V_a);
    pack(l->n, l->n, a->U_a, a->packed_U_a);
}

/* C (B, n) = A (B, n), whose rows are `apart` numbers apart, times the transpose of a packed weight. */
static void projected(const Learner *l, const real *from, int64_t apart, const real *packed, real *to)
{
    memset(to, 0, sizeof(real) * l->streams * l->n);
    times_packed(l->streams, l->n, l->n, from, apart, packed, to, l->n);
}

/* Slots that hold something when step t begins. */
static int64_t filled_slots(const Attentive *a, int64_t t)
{
    return !a->buffer || t < a->buffer ? t : least(t, a->slots);
}

/* exp(2 x) of `count` numbers. */
static inline void grow(int64_t count, const real *restrict x, real *restrict grown)
{
    for (int64_t j = 0; j < count; j++) grown[j] = exponential(2 * x[j]);
}

/* sum_j v_j r_j, four partial sums at a time: one alone would wait for itself. */
static inline real response(int64_t n, const real *grown_q, const real *grown_k, const real *v)
{
    vec sum[4] = {{0}, {0}, {0}, {0}};
    int64_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES)
        for (int64_t i = j, u = 0; u < 4; u++, i += LANES) sum[u] += load(v + i) / (1 + load(grown_q + i) * load(grown_k + i));
    for (; j + LANES <= n; j += LANES) sum[0] += load(v + j) / (1 + load(grown_q + j) * load(grown_k + j));
    real total = sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; j < n; j++) total += v[j] / (1 + grown_q[j] * grown_k[j]);
    return total;
}

/* ctx (n) = sum_i alpha_i h_i over m states, four of them at a time. */
static inline void weighted_sum(int64_t n, int64_t m, const real *alpha, const real *restrict h, real *restrict ctx)
{
    memset(ctx, 0, sizeof(real) * n);
    int64_t i = 0;
    for (; i + 4 <= m; i += 4, h += 4 * n)
        for (int64_t j = 0; j < n; j++)
            ctx[j] += (alpha[i] * h[j] + alpha[i + 1] * h[n + j]) + (alpha[i + 2] * h[2 * n + j] + alpha[i + 3] * h[3 * n + j]);
    for (; i < m; i++, h += n) add_scaled(n, alpha[i], h, ctx);
}

/* What one stream attends to, alpha (m), and reads, ctx (n); `grown_k` (S, n) and `grown_q` (n): exp(2 k) and exp(2 q). */
static void attend(
    const Attentive *a, int64_t n, int64_t m, const real *h, const real *grown_k, const real *grown_q, real *alpha, real *ctx)
{
    real most = -INFINITY, total = 0, whole = 0;
    for (int64_t j = 0; j < n; j++) whole += a->v[j];
    for (int64_t i = 0; i < m; i++) {
        alpha[i] = whole - 2 * response(n, grown_q, grown_k + i * n, a->v);
        most = alpha[i] > most ? alpha[i] : most;
    }
    for (int64_t i = 0; i < m; i++) alpha[i] = exponential(alpha[i] - most);
    for (int64_t i = 0; i < m; i++) total += alpha[i];
    scale_row(m, 1 / total, alpha);
    weighted_sum(n, m, alpha, h, ctx);
}

/* d times tanh and its slope, of two keys, to what is to get them: v, the query and the keys (all but v less v). */
static inline void credit_two_responses(
    int64_t n, const real *d, const real *restrict grown_q, const real *restrict grown_k, real *restrict d_v,
    real *restrict d_q, real *restrict d_k)
{
    const real *restrict other_k = grown_k + n;
    real *restrict d_other = d_k + n;
    const real first = d[0], second = d[1];
    for (int64_t j = 0; j < n; j++) {
        const real r = 1 / (1 + grown_q[j] * grown_k[j]), other = 1 / (1 + grown_q[j] * other_k[j]);
        const real sloped = 4 * first * (r - r * r), sloped_other = 4 * second * (other - other * other);
        d_v[j] += first * (1 - 2 * r) + second * (1 - 2 * other);
        d_q[j] += sloped + sloped_other;
        d_k[j] += sloped;
        d_other[j] += sloped_other;
    }
}

/* The same of one key. */
static inline void credit_response(
    int64_t n, real d, const real *restrict grown_q, const real *restrict grown_k, real *restrict d_v, real *restrict d_q,
    real *restrict d_k)
{
    for (int64_t j = 0; j < n; j++) {
        const real r = 1 / (1 + grown_q[j] * grown_k[j]), sloped = 4 * d * (r - r * r);
        d_v[j] += d * (1 - 2 * r);
        d_q[j] += sloped;
        d_k[j] += sloped;
    }
}

/* Credit on ctx of stream b, (n), to states, keys (less v) and v, and in d_q, of zeros, that on the query (less v). */
static void attend_back(const Attentive *a, int64_t n, int64_t m, int64_t b, const real *alpha, const real *d_ctx, real *d_q)
{
    const int64_t first = b * a->slots * n;
    const real *h = a->slot_h + first, *grown = a->slot_grown + first;
    real *d_h = a->credit_h + first, *d_k = a->credit_k + first, *d_e = a->d_e, mean = 0;
    for (int64_t i = 0; i < m; i++) {
        d_e[i] = dot(n, h + i * n, d_ctx);
        add_scaled(n, alpha[i], d_ctx, d_h + i * n);
    }
    for (int64_t i = 0; i < m; i++) mean += alpha[i] * d_e[i];
    for (int64_t i = 0; i < m; i++) d_e[i] = alpha[i] * (d_e[i] - mean);
    int64_t i = 0;
    for (; i + 2 <= m; i += 2) credit_two_responses(n, d_e + i, a->grown_q, grown + i * n, a->dv, d_q, d_k + i * n);
    if (i < m) credit_response(n, d_e[i], a->grown_q, grown + i * n, a->dv, d_q, d_k + i * n);
}

/* Puts a state and its key into place `at` of (B, S). */
static void put(const Attentive *a, int64_t n, int64_t at, const real *h, const real *k)
{
    memcpy(a->slot_h + at * n, h, sizeof(real) * n);
    memcpy(a->slot_k + at * n, k, sizeof(real) * n);
    grow(n, k, a->slot_grown + at * n);
}

/* Computes anew what is kept beside the keys; to be called when others have written them. */
void sab_attentive_refresh(const Learner *l, const Attentive *a)
{
    grow(l->streams * a->slots * l->n, a->slot_k, a->slot_grown);
}

/* Copies slot `from` over slot `to` of one stream's (S, n). */
static void copy_slot(int64_t n, real *rows, int64_t from, int64_t to)
{
    memcpy(rows + to * n, rows + from * n, sizeof(real) * n);
}

/* The state in `slot` of stream b leaves the buffer at step t, for the relevant set or for good. */
static void screen(const Learner *l, const Attentive *a, int64_t t, int64_t b, int64_t slot)
{
    const int64_t n = l->n, left = t - a->buffer, first = b * a->slots, room = a->buffer + left < a->slots;
    real *relevance = a->relevance + first;
    int64_t place = a->buffer + (room ? left : 0);
    for (int64_t i = place + 1; !room && i < a->slots; i++)
        if (relevance[i] < relevance[place]) place = i;
    const int accepted = room || relevance[slot] > relevance[place];
    if (a->learning) {
        a->place[t * l->streams + b] = place;
        a->accepted[t * l->streams + b] = (uint8_t)accepted;
        a->ousted[t * l->streams + b] = a->born[first + place];
    }
    if (!accepted) return;
    copy_slot(n, a->slot_h + first * n, slot, place);
    copy_slot(n, a->slot_k + first * n, slot, place);
    copy_slot(n, a->slot_grown + first * n, slot, place);
    a->born[first + place] = a->born[first + slot];
    relevance[place] = relevance[slot];
}

/* Takes state and key of step t, (B, n) each. */
static void remember(const Learner *l, const Attentive *a, int64_t t, const real *h, const real *k)
{
    const int64_t n = l->n, slot = a->buffer ? t % a->buffer : t;
    for (int64_t b = 0; b < l->streams; b++) {
        const int64_t at = b * a->slots + slot;
        if (a->buffer && t >= a->buffer) screen(l, a, t, b, slot);
        put(a, n, at, h + b * n, k + b * n);
        a->born[at] = t;
        if (a->buffer) a->relevance[at] = 0;
    }
}

/* All streams' attention at step t, kept in row `row`; `before`: the row of the step before. Writes s into xh's row. */
static void attend_all(const Learner *l, const Attentive *a, int64_t t, int64_t row, int64_t before)
{
    const int64_t n = l->n, d = l->d_in, wide = d + n, streams = l->streams, m = filled_slots(a, t);
    projected(l, l->xh + before * streams * wide + d, wide, a->packed_V_a, a->q + row * streams * n);
    for (int64_t b = 0; b < streams; b++) {
        const int64_t at = row * streams + b, first = b * a->slots;
        real *alpha = a->alpha + at * a->slots, *s = l->xh + at * wide + d;
        const real *h = a->h + (before * streams + b) * n;
        grow(n, a->q + at * n, a->grown_q);
        attend(a, n, m, a->slot_h + first * n, a->slot_grown + first * n, a->grown_q, alpha, s);
        memset(alpha + m, 0, sizeof(real) * (a->slots - m));
        for (int64_t j = 0; j < n; j++) s[j] = (s[j] + h[j]) * (real)0.5;
        for (int64_t i = 0; i < least(t, a->buffer); i++) a->relevance[first + i] += alpha[i];
    }
    if (a->held) memcpy(a->held + row * streams * a->slots, a->born, sizeof(int64_t) * streams * a->slots);
}

/* Step t of a sequence: x (B, d) -> l->y. */
void sab_attentive_step(const Learner *l, const Attentive *a, int64_t t, const real *x)
{
    const int64_t n = l->n, d = l->d_in, wide = d + n, streams = l->streams, row = a->learning ? t : 0;
    const int64_t first = row * streams;
    real *xh = l->xh + first * wide, *h = a->h + first * n, *c = l->c + first * n, *k = a->k + first * n;
    if (t > 0)
        attend_all(l, a, t, row, a->learning ? t - 1 : 0);
    else
        for (int64_t b = 0; b < streams; b++) memset(xh + b * wide + d, 0, sizeof(real) * n);
    for (int64_t b = 0; b < streams; b++) memcpy(xh + b * wide, x + b * d, sizeof(real) * d);
    cell_step(l, streams, xh, c, l->gates + first * 4 * n, c + streams * n, l->tanh_c + first * n, h);
    if (!a->learning) memcpy(c, c + streams * n, sizeof(real) * streams * n);
    projected(l, h, n, a->packed_U_a, k);
    remember(l, a, t, h, k);
    fill_rows(streams, l->d_out, l->b_out, l->y);
    times_packed(streams, l->d_out, n, h, n, l->packed_W_out, l->y, l->d_out);
}

/* Moves the credit on the state that step t formed to on_h, and that on its key to on_k, and puts the memory of stream b
   back to what it was before the step. */
static void recede(const Learner *l, const Attentive *a, int64_t t, int64_t b)
{
    const int64_t n = l->n, streams = l->streams, at = t * streams + b, first = b * a->slots;
    const int64_t slot = first + (a->buffer ? t % a->buffer : t);
    add_scaled(n, 1, a->credit_h + slot * n, a->on_h + at * n);
    for (int64_t j = 0; j < n; j++) a->on_k[at * n + j] = a->credit_k[slot * n + j] * a->v[j];
    memset(a->credit_h + slot * n, 0, sizeof(real) * n);
    memset(a->credit_k + slot * n, 0, sizeof(real) * n);
    if (!a->buffer || t < a->buffer) return;
    const int64_t left = (t - a->buffer) * streams + b, place = first + a->place[at];
    put(a, n, slot, a->h + left * n, a->k + left * n);
    if (!a->accepted[at]) return;
    copy_slot(n, a->credit_h, place, slot);
    copy_slot(n, a->credit_k, place, slot);
    memset(a->credit_h + place * n, 0, sizeof(real) * n);
    memset(a->credit_k + place * n, 0, sizeof(real) * n);
    if (a->ousted[at] < 0) return;
    const int64_t before = a->ousted[at] * streams + b;
    put(a, n, place, a->h + before * n, a->k + before * n);
}

/* From the credit on s of step t in l->dh, less that through its query, on to the step before and to all it attended to;
   `count` streams from `first` on. */
static void credit_reads(const Learner *l, const Attentive *a, int64_t t, int64_t first, int64_t count)
{
    const int64_t n = l->n, streams = l->streams, m = filled_slots(a, t), row = t * streams + first;
    if (t + 1 < a->steps) times(count, n, n, a->on_q + (row + streams) * n, n, a->V_a, n, l->dh, n);
    scale_row(count * n, (real)0.5, l->dh);
    add_scaled(count * n, 1, l->dh, a->on_h + (row - streams) * n);
    memset(a->on_q + row * n, 0, sizeof(real) * count * n);
    for (int64_t b = 0; b < count; b++) {
        real *d_q = a->on_q + (row + b) * n;
        grow(n, a->q + (row + b) * n, a->grown_q);
        attend_back(a, n, m, first + b, a->alpha + (row + b) * a->slots, l->dh + b * n, d_q);
        multiply(n, a->v, d_q);
    }
}

/* From the last step to the first with `count` streams from `first` on. */
static void walk_back(const Learner *l, const Attentive *a, int64_t first, int64_t count)
{
    const int64_t n = l->n;
    memset(l->dc, 0, sizeof(real) * count * n);
    for (int64_t t = a->steps - 1; t >= 0; t--) {
        const int64_t row = t * l->streams + first;
        real *on_h = a->on_h + row * n;
        for (int64_t b = first; b < first + count; b++) recede(l, a, t, b);
        times(count, n, n, a->on_k + row * n, n, a->U_a, n, on_h, n);
        memcpy(l->dh, on_h, sizeof(real) * count * n);
        cell_vjp(
            l, count, l->gates + row * 4 * n, l->tanh_c + row * n, l->c + row * n, l->dh, l->dc, l->d_pre + row * 4 * n,
            t > 0);
        if (t > 0) credit_reads(l, a, t, first, count);
    }
}

/* Streams that walk back together: what they remember stays in a cache, and they fill a tile of gemm.c. */
#define TOGETHER 4

/* Adds the gradient of a whole sequence's signals. */
void sab_attentive_backward(const Learner *l, const Attentive *a)
{
    const int64_t n = l->n, o = l->d_out, d = l->d_in, wide = d + n, streams = l->streams;
    const int64_t rows = a->steps * streams, remembered = streams * a->slots * n;
    memset(a->on_h, 0, sizeof(real) * rows * n);
    times(rows, n, o, l->signal, o, l->W_out, n, a->on_h, n);
    memset(a->credit_h, 0, sizeof(real) * remembered);
    memset(a->credit_k, 0, sizeof(real) * remembered);
    for (int64_t first = 0; first < streams; first += TOGETHER) walk_back(l, a, first, least(TOGETHER, streams - first));
    cell_accumulate(l, rows, l->d_pre, l->xh);
    transposed_times(o, n, rows, l->signal, o, a->h, n, l->dW_out, n);
    add_rows(rows, o, l->signal, l->db_out);
    transposed_times(n, n, rows, a->on_k, n, a->h, n, a->dU_a, n);
    /* The query of each step is of the s before it. */
    transposed_times(n, n, rows - streams, a->on_q + streams * n, n, l->xh + d, wide, a->dV_a, n);
}
