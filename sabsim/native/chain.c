/* The main chain: the forward step, the learning signal, a reset, the window's VJP, and moving on to the next block. */

#include "learner.h"

/* Packs the weights anew; to be called whenever parameters have changed. */
void sab_pack_weights(const Learner *l)
{
    pack(4 * l->n, l->d_in + l->n, l->W, l->packed_W);
    pack(l->d_out, l->slots ? 2 * l->n : l->n, l->W_out, l->packed_W_out);
    const int back = packs_back(l);
    if (back) pack_plain(l->n, 4 * l->n, l->W + l->d_in, l->d_in + l->n, l->packed_back_W_h);
    if (back && l->slots) pack_plain(l->n, l->n, l->W_q, l->n, l->packed_back_W_q);
    if (l->slots) {
        pack(l->n, l->n, l->W_q, l->packed_W_q);
        pack(l->n, l->n, l->W_k, l->packed_W_k);
    }
}

/* `to` becomes `from` times the mask in each of `steps` steps, (steps, B, w) both. */
static void times_mask(const Learner *l, int64_t steps, int64_t width, const real *from, real *to)
{
    const int64_t one = l->streams * width;
    for (int64_t step = 0; step < steps; step++)
        for (int64_t i = 0; i < one; i++) to[step * one + i] = from[step * one + i] * l->mask[i];
}

/* What the mask leaves of the readout's inputs in `steps` steps from ring position t on, in `masked`. */
static const real *mask_readout(const Learner *l, int64_t t, int64_t steps, int64_t width)
{
    const real *readout = l->readout + t * l->streams * width;
    if (!l->mask) return readout;
    times_mask(l, steps, width, readout, l->masked);
    return l->masked;
}

/* Multiplies h_prev of ring row `row` of stream b by what is carried of it, in learning, and writes that down. */
static void carry(const Learner *l, int64_t row, int64_t b, int64_t learning, real *h_prev)
{
    real *carried = l->carried + row * l->n;
    for (int64_t j = 0; j < l->n; j++) {
        carried[j] = learning ? l->carried_now[b * l->n + j] : 1;
        h_prev[j] *= carried[j];
    }
}

/* One step at ring position t: x (B, d) -> y; `noisy`: whether the choice of what is read may explore; `masked`: whether
   the readout reads only what the mask leaves, and the next step sees only what is carried. */
void sab_step(const Learner *l, int64_t t, const real *x, int64_t noisy, int64_t masked)
{
    const int64_t streams = l->streams, n = l->n, wide = l->d_in + n, width = l->slots ? 2 * n : n;
    const int64_t row = t * streams;
    real *xh = l->xh + row * wide, *after = xh + streams * wide, *h_hat = l->h_hat + row * n;
    for (int64_t b = 0; b < streams; b++) memcpy(xh + b * wide, x + b * l->d_in, sizeof(real) * l->d_in);
    cell_step(
        l, streams, xh, l->c + row * n, l->gates + row * 4 * n, l->c + (row + streams) * n, l->tanh_c + row * n, h_hat);
    if (l->slots) read_slots(l, t, noisy);
    for (int64_t b = 0; b < streams; b++) {
        real *readout = l->readout + (row + b) * width;
        memcpy(readout, h_hat + b * n, sizeof(real) * n);
        if (l->slots) {
            const real *s = l->s + (row + b) * n;
            add_scaled(n, 1, s, readout);
            memcpy(readout + n, s, sizeof(real) * n);
        }
        memcpy(after + b * wide + l->d_in, l->passing ? h_hat + b * n : readout, sizeof(real) * n);
        if (l->carried) carry(l, row + streams + b, b, masked, after + b * wide + l->d_in);
        l->local[row + b] = l->age[b]++;
    }
    fill_rows(streams, l->d_out, l->b_out, l->y);
    const real *read = masked ? mask_readout(l, t, 1, width) : l->readout + row * width;
    times_packed(streams, l->d_out, width, read, width, l->packed_W_out, l->y, l->d_out);
}

/* The steps of a whole block, in which no stream begins a sequence: x (block, B, d) -> y (block, B, d_out). */
void sab_steps(const Learner *l, const real *x, int64_t noisy, int64_t masked, real *y)
{
    const int64_t in = l->streams * l->d_in, out = l->streams * l->d_out;
    for (int64_t t = 0; t < l->block; t++) {
        sab_step(l, l->history + t, x + t * in, noisy, masked);
        memcpy(y + t * out, l->y, sizeof(real) * out);
    }
}

/* The learning signal of the step at ring position t; `loss` (B) NULL: the signal's norm. */
void sab_take(const Learner *l, int64_t t, const real *signal, const real *loss)
{
    const int64_t row = t * l->streams, o = l->d_out;
    memcpy(l->signal + row * o, signal, sizeof(real) * l->streams * o);
    for (int64_t b = 0; b < l->streams; b++)
        l->loss[row + b] = loss ? loss[b] : (real)sqrt((double)dot(o, signal + b * o, signal + b * o));
}

/* The streams in `done` (B) begin a new sequence before the step at ring position t. */
void sab_cut(const Learner *l, int64_t t, const uint8_t *done)
{
    const int64_t n = l->n, wide = l->d_in + n, row = t * l->streams;
    for (int64_t b = 0; b < l->streams; b++) {
        if (!done[b]) continue;
        l->keep[row + b] = 0;
        memset(l->xh + (row + b) * wide + l->d_in, 0, sizeof(real) * n);
        memset(l->c + (row + b) * n, 0, sizeof(real) * n);
        l->age[b] = 0;
        if (l->slots) l->filled[b] = 0;
    }
}

/* Whether any step of the block got a learning signal. */
static int has_signal(const Learner *l)
{
    const int64_t first = l->history * l->streams * l->d_out, count = l->block * l->streams * l->d_out;
    for (int64_t i = 0; i < count; i++)
        if (l->signal[first + i] != 0) return 1;
    return 0;
}

/* The VJP of the chain for the block's learning signals: adds to the gradient, leaves the microstates' credits, and in
   `input_credit` (k, B, d), unless it is NULL, that of the inputs. `fresh`: whether keys are of these parameters. */
void sab_backward(const Learner *l, real *input_credit, int64_t fresh)
{
    const int64_t streams = l->streams, n = l->n, o = l->d_out, wide = l->d_in + n, width = l->slots ? 2 * n : n;
    const int64_t first = l->history + l->block - l->k_trunc, begin = l->history * streams;
    const real *signal = l->signal + begin * o;
    if (!has_signal(l)) {
        /* Tasks that are judged by their last step alone have few blocks with a signal: of the others all is exactly 0. */
        if (input_credit) memset(input_credit, 0, sizeof(real) * l->k_trunc * streams * l->d_in);
        if (l->slots) forget_credit(l, first);
        return;
    }
    const real *read = mask_readout(l, l->history, l->block, width);
    transposed_times(o, width, l->block * streams, signal, o, read, width, l->dW_out, width);
    add_rows(l->block * streams, o, signal, l->db_out);
    memset(l->dy, 0, sizeof(real) * l->block * streams * width);
    times(l->block * streams, width, o, signal, o, l->W_out, width, l->dy, width);
    if (l->mask) times_mask(l, l->block, width, l->dy, l->dy);
    memset(l->dh, 0, sizeof(real) * streams * n);
    memset(l->dc, 0, sizeof(real) * streams * n);
    const int64_t held = l->slots ? list_held(l, first, fresh) : 0;
    for (int64_t t = l->k_trunc - 1; t >= 0; t--) {
        const int64_t row = (first + t) * streams;
        const real *dy = row >= begin ? l->dy + (row - begin) * width : NULL;
        if (l->passing) {
            memcpy(l->passing, l->dh, sizeof(real) * streams * n);
            memset(l->dh, 0, sizeof(real) * streams * n);
        }
        if (dy)
            for (int64_t b = 0; b < streams; b++) add_scaled(n, 1, dy + b * width, l->dh + b * n);
        if (l->slots) recall_vjp(l, first, t, dy ? dy + n : NULL, width);
        if (l->passing) add_scaled(streams * n, 1, l->passing, l->dh);
        cell_vjp(
            l, streams, l->gates + row * 4 * n, l->tanh_c + row * n, l->c + row * n, l->dh, l->dc,
            l->d_pre + row * 4 * n, t > 0);
        for (int64_t b = 0; b < streams; b++) {
            scale_row(n, l->keep[row + b], l->dh + b * n);
            if (l->carried) multiply(n, l->carried + (row + b) * n, l->dh + b * n);
            scale_row(n, l->keep[row + b], l->dc + b * n);
        }
    }
    const int64_t row = first * streams;
    cell_accumulate(l, l->k_trunc * streams, l->d_pre + row * 4 * n, l->xh + row * wide);
    if (input_credit) cell_input_credit(l, l->k_trunc * streams, l->d_pre + row * 4 * n, input_credit);
    if (l->slots) credit_held(l, first, held);
}

/* Moves a ring's last `kept` rows, `width` numbers each, to its beginning, over the rows of the block before. */
static void shift(const Learner *l, real *ring, int64_t kept, int64_t width)
{
    memmove(ring, ring + l->block * l->streams * width, sizeof(real) * kept * l->streams * width);
}

static void shift_integers(const Learner *l, int64_t *ring, int64_t width)
{
    memmove(ring, ring + l->block * l->streams * width, sizeof(int64_t) * l->history * l->streams * width);
}

/* Moves the end of the block into the history, so that the next block starts at ring position `history`. */
void sab_advance(const Learner *l)
{
    const int64_t n = l->n, kept = l->history, reads = l->reads, rest = l->block * l->streams;
    shift(l, l->xh, kept + 1, l->d_in + n);
    shift(l, l->c, kept + 1, n);
    if (l->carried) shift(l, l->carried, kept + 1, n);
    shift(l, l->h_hat, kept, n);
    shift(l, l->readout, kept, l->slots ? 2 * n : n);
    shift(l, l->keep, kept, 1);
    shift(l, l->signal, kept, l->d_out);
    shift(l, l->loss, kept, 1);
    shift_integers(l, l->local, 1);
    const int64_t bytes = l->streams * l->observed;
    if (bytes) memmove(l->observation, l->observation + l->block * bytes, kept * bytes);
    if (l->slots) {
        shift(l, l->s, kept, n);
        if (keeps_reads(l)) shift(l, l->m, kept, reads * n);
        shift(l, l->weight, kept, reads);
        shift(l, l->scale, kept, 1);
        shift_integers(l, l->index, reads);
        shift_integers(l, l->stamp, reads);
    }
    if (l->k_trunc > l->block) {
        shift(l, l->gates, kept, 4 * n);
        shift(l, l->tanh_c, kept, n);
        shift(l, l->d_pre, kept, 4 * n);
        if (l->slots) {
            shift(l, l->q, kept, n);
            shift(l, l->q_norm, kept, 1);
            shift(l, l->dq, kept, n);
        }
    }
    for (int64_t i = 0; i < rest; i++) l->keep[kept * l->streams + i] = 1;
    memset(l->signal + kept * l->streams * l->d_out, 0, sizeof(real) * rest * l->d_out);
    memset(l->loss + kept * l->streams, 0, sizeof(real) * rest);
}

/* First place in the block, step by step, input, signal and state in turn, stream by stream, that is not finite; -1. */
int64_t sab_look(const Learner *l)
{
    const int64_t n = l->n, d = l->d_in, o = l->d_out, streams = l->streams;
    for (int64_t t = 0; t < l->block; t++) {
        const int64_t row = (l->history + t) * streams;
        const real *start[] = {l->xh + row * (d + n), l->signal + row * o, l->h_hat + row * n};
        const int64_t count[] = {d, o, n}, apart[] = {d + n, o, n};
        for (int64_t what = 0; what < 3; what++)
            for (int64_t b = 0; b < streams; b++) {
                real sum = 0;
                for (int64_t j = 0; j < count[what]; j++) sum += start[what][b * apart[what] + j];
                if (!isfinite(sum)) return (t * 3 + what) * streams + b;
            }
    }
    return -1;
}
