/* The LSTM on any rows: the streams of the main chain, the segments of a replay, the steps on a usual input. */

#include "learner.h"

/* Multiplications in the time that the functions of one unit take. */
#define UNIT 128

/* Rows of cells, forward or backward; what is read only on the way back, or written only there, is NULL on the way forth. */
typedef struct {
    int64_t n;
    real *gates;        /* (rows, 4n) */
    const real *c_prev; /* (rows, n) */
    real *c;            /* (rows, n) */
    real *tanh_c;       /* (rows, n) */
    real *h_hat;        /* (rows, n) */
    const real *dh;     /* (rows, n) */
    real *dc;           /* (rows, n) */
    real *d_pre;        /* (rows, 4n) */
} Cells;

static void forward_row(const void *task, int64_t row)
{
    const Cells *cells = task;
    const int64_t n = cells->n;
    real *restrict gates = cells->gates + row * 4 * n, *o = gates, *in = o + n, *f = o + 2 * n, *g = o + 3 * n;
    real *restrict c = cells->c + row * n, *restrict tanh_c = cells->tanh_c + row * n;
    real *restrict h_hat = cells->h_hat + row * n;
    const real *restrict c_prev = cells->c_prev + row * n;
    for (int64_t j = 0; j < 3 * n; j++) o[j] = sigmoid(o[j]);
    for (int64_t j = 0; j < n; j++) g[j] = hyperbolic_tangent(g[j]);
    for (int64_t j = 0; j < n; j++) c[j] = f[j] * c_prev[j] + in[j] * g[j];
    for (int64_t j = 0; j < n; j++) tanh_c[j] = hyperbolic_tangent(c[j]);
    for (int64_t j = 0; j < n; j++) h_hat[j] = o[j] * tanh_c[j];
}

/* Gates o, i, f, g (rows, 4n), from pre-activations to activations in place; c = f c_prev + i g, h_hat = o tanh(c). */
static void lstm_forward(
    int64_t rows, int64_t n, real *gates, const real *c_prev, real *c, real *tanh_c, real *h_hat)
{
    const Cells cells = {n, gates, c_prev, c, tanh_c, h_hat, NULL, NULL, NULL};
    share(rows, UNIT * rows * n, forward_row, &cells);
}

static void backward_row(const void *task, int64_t row)
{
    const Cells *cells = task;
    const int64_t n = cells->n;
    const real *restrict gates = cells->gates + row * 4 * n, *o = gates, *in = o + n, *f = o + 2 * n, *g = o + 3 * n;
    const real *restrict tc = cells->tanh_c + row * n, *restrict before = cells->c_prev + row * n;
    const real *restrict up = cells->dh + row * n;
    real *restrict carried = cells->dc + row * n, *restrict out = cells->d_pre + row * 4 * n;
    for (int64_t j = 0; j < n; j++) {
        const real inside = carried[j] + up[j] * (o[j] - o[j] * tc[j] * tc[j]);
        out[j] = up[j] * tc[j] * (o[j] - o[j] * o[j]);
        out[n + j] = inside * g[j] * (in[j] - in[j] * in[j]);
        out[2 * n + j] = inside * before[j] * (f[j] - f[j] * f[j]);
        out[3 * n + j] = inside * (in[j] - in[j] * g[j] * g[j]);
        carried[j] = inside * f[j];
    }
}

/* Credit dh on h_hat and dc on c -> d_pre (rows, 4n) on the pre-activations, and dc becomes that on c_prev. */
static void lstm_backward(
    int64_t rows, int64_t n, const real *gates, const real *tanh_c, const real *c_prev, const real *dh, real *dc,
    real *d_pre)
{
    const Cells cells = {n, (real *)gates, c_prev, NULL, (real *)tanh_c, NULL, dh, dc, d_pre};
    share(rows, UNIT / 4 * rows * n, backward_row, &cells);
}

/* One cell step of any rows: xh (rows, d+n) and c_prev -> gates, c, tanh_c, h_hat. */
static void cell_step(
    const Learner *l, int64_t rows, const real *xh, const real *c_prev, real *gates, real *c, real *tanh_c, real *h_hat)
{
    const int64_t wide = l->d_in + l->n;
    fill_rows(rows, 4 * l->n, l->b, gates);
    times_packed(rows, 4 * l->n, wide, xh, wide, l->packed_W, gates, 4 * l->n);
    lstm_forward(rows, l->n, gates, c_prev, c, tanh_c, h_hat);
}

/* From so many units on a weight, walked through by a few of its columns after the others, is met a page of memory a row. */
#define LARGE 256

/* Whether weights are packed for the way back too: where there are streams enough that they would be copied for each product,
   or units enough. */
static int packs_back(const Learner *l) { return l->streams >= COPY_ROWS || l->n >= LARGE; }

/* C (rows, columns) += A (rows, depth) B with B a weight, packed where that pays. */
static void times_weights(
    const Learner *l, int64_t rows, int64_t columns, int64_t depth, const real *a, const real *b, int64_t ldb,
    const real *packed, real *c)
{
    if (packs_back(l))
        times_packed(rows, columns, depth, a, depth, packed, c, columns);
    else
        times(rows, columns, depth, a, depth, b, ldb, c, columns);
}

/* Credit on (h_hat, c) of any rows -> d_pre, and dh, dc become the credit on (h_prev, c_prev), dh only if it is `wanted`. */
static void cell_vjp(
    const Learner *l, int64_t rows, const real *gates, const real *tanh_c, const real *c_prev, real *dh, real *dc,
    real *d_pre, int wanted)
{
    const int64_t n = l->n;
    lstm_backward(rows, n, gates, tanh_c, c_prev, dh, dc, d_pre);
    if (!wanted) return;
    memset(dh, 0, sizeof(real) * rows * n);
    times_weights(l, rows, n, 4 * n, d_pre, l->W + l->d_in, l->d_in + n, l->packed_back_W_h, dh);
}

/* Credit on the inputs of `rows` row-steps, (rows, d), from that on their pre-activations. */
static void cell_input_credit(const Learner *l, int64_t rows, const real *d_pre, real *credit)
{
    memset(credit, 0, sizeof(real) * rows * l->d_in);
    times(rows, l->d_in, 4 * l->n, d_pre, 4 * l->n, l->W, l->d_in + l->n, credit, l->d_in);
}

/* Adds the cell's gradient of `rows` row-steps. */
static void cell_accumulate(const Learner *l, int64_t rows, const real *d_pre, const real *xh)
{
    const int64_t wide = l->d_in + l->n;
    transposed_times(4 * l->n, wide, rows, d_pre, 4 * l->n, xh, wide, l->dW, wide);
    add_rows(rows, 4 * l->n, d_pre, l->db);
}
