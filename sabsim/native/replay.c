/* Replay: the segments of the microstates with the greatest credit, run again with today's parameters and walked back. */

#include "learner.h"

/* Per stream the R slots of greatest credit norm, `slot` and `norm` (B, R), greatest first; norm 0: not replayed, as are
   all below `negligible` times the greatest. */
void sab_choose(const Learner *l, double negligible, int64_t *slot, real *norm)
{
    const int64_t n = l->n, slots = l->slots, budget = l->budget;
    real most = 0;
    for (int64_t b = 0; b < l->streams; b++) {
        for (int64_t i = 0; i < slots; i++) {
            const real *credit = l->credit + (b * slots + i) * n;
            l->score[i] = l->best[b * slots + i] < 0 ? 0 : (real)sqrt((double)dot(n, credit, credit));
        }
        greatest(slots, l->score, budget, slot + b * budget);
        for (int64_t r = 0; r < budget; r++) norm[b * budget + r] = l->score[slot[b * budget + r]];
        if (!(norm[b * budget] <= most)) most = norm[b * budget];
    }
    for (int64_t i = 0; i < l->streams * budget; i++)
        if (!(norm[i] >= negligible * most)) norm[i] = 0;
}

/* Adds the gradient of the chosen segments; `length` (B, R): of all of them, replayed or not. With an encoder `x`
   (k, chosen, d) are their inputs and `input_credit`, of the same shape, what these receive; both NULL without one. */
void sab_replay(
    const Learner *l, const int64_t *slot, const real *norm, int64_t *length, const real *x, real *input_credit)
{
    const int64_t n = l->n, d = l->d_in, wide = d + n, k = l->k_trunc, budget = l->budget;
    int64_t rows = 0;
    for (int64_t i = 0; i < l->streams * budget; i++) {
        const int64_t b = i / budget, place = b * (l->slots + 1) + slot[i];
        length[i] = l->slot_length[place];
        if (!(norm[i] > 0)) continue;
        memcpy(l->seg_dh + rows * n, l->credit + (b * l->slots + slot[i]) * n, sizeof(real) * n);
        memcpy(l->seg_c + rows * n, l->slot_c + place * n, sizeof(real) * n);
        l->rows[rows++] = place;
    }
    if (!rows) return;
    memset(l->seg_dc, 0, sizeof(real) * rows * n);
    for (int64_t t = 0; t < k; t++) {
        real *xh = l->seg_xh + t * rows * wide, *c = l->seg_c + t * rows * n;
        for (int64_t i = 0; i < rows; i++) {
            real *h = xh + i * wide + d;
            memcpy(xh + i * wide, l->slot_segment + (l->rows[i] * k + t) * wide, sizeof(real) * wide);
            if (x) memcpy(xh + i * wide, x + (t * rows + i) * d, sizeof(real) * d);
            if (!t) continue;
            /* A segment shorter than k_trunc begins with its sequence: whatever came before is cut off at that step. */
            if (t == k - l->slot_length[l->rows[i]]) {
                memset(h, 0, sizeof(real) * n);
                memset(c + i * n, 0, sizeof(real) * n);
            } else {
                add_scaled(n, 1, l->seg_h + i * n, h);
            }
        }
        cell_step(
            l, rows, xh, c, l->seg_gates + t * rows * 4 * n, c + rows * n, l->seg_tanh_c + t * rows * n, l->seg_h);
    }
    for (int64_t t = k - 1; t >= 0; t--) {
        cell_vjp(
            l, rows, l->seg_gates + t * rows * 4 * n, l->seg_tanh_c + t * rows * n, l->seg_c + t * rows * n, l->seg_dh,
            l->seg_dc, l->seg_d_pre + t * rows * 4 * n, t > 0);
        for (int64_t i = 0; i < rows; i++) {
            if (t != k - l->slot_length[l->rows[i]]) continue;
            memset(l->seg_dh + i * n, 0, sizeof(real) * n);
            memset(l->seg_dc + i * n, 0, sizeof(real) * n);
        }
    }
    cell_accumulate(l, k * rows, l->seg_d_pre, l->seg_xh);
    if (input_credit) cell_input_credit(l, k * rows, l->seg_d_pre, input_credit);
}
