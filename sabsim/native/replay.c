/* Replay: the segments of the microstates with the greatest credit, run again with today's parameters and walked back. */

#include "learner.h"

/* Gives places `found` to `budget` the first slots that the places before do not have. */
static void fill_up(int64_t found, int64_t budget, int64_t *slot)
{
    for (int64_t next = 0; found < budget; next++) {
        int64_t r = 0;
        while (r < found && slot[r] != next) r++;
        if (r == found) slot[found++] = next;
    }
}

/* Per stream the R slots of greatest credit norm, `slot` and `norm` (B, R), greatest first; norm 0: not replayed, as are
   all below `negligible` times the greatest. */
void sab_choose(const Learner *l, double negligible, int64_t *slot, real *norm)
{
    const int64_t n = l->n, budget = l->budget;
    real most = 0;
    for (int64_t b = 0; b < l->streams; b++, slot += budget) {
        const int64_t *touched = l->touched + b * l->reads * l->k_trunc;
        real *greatest = norm + b * budget;
        int64_t found = 0;
        for (int64_t j = 0; j < l->touches[b]; j++) {
            const real *credit = l->credit + (b * l->slots + touched[j]) * n;
            const real length = (real)sqrt((double)dot(n, credit, credit));
            if (length == 0 || (found == budget && !(length > greatest[budget - 1]))) continue;
            int64_t r = found < budget ? found++ : budget - 1;
            for (; r > 0 && length > greatest[r - 1]; r--) {
                greatest[r] = greatest[r - 1];
                slot[r] = slot[r - 1];
            }
            greatest[r] = length;
            slot[r] = touched[j];
        }
        fill_up(found, budget, slot);
        for (int64_t r = found; r < budget; r++) greatest[r] = 0;
        if (!(greatest[0] <= most)) most = greatest[0];
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
                if (l->carried) multiply(n, l->slot_carried + l->rows[i] * n, h);
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
            if (l->carried) multiply(n, l->slot_carried + l->rows[i] * n, l->seg_dh + i * n);
            if (t != k - l->slot_length[l->rows[i]]) continue;
            memset(l->seg_dh + i * n, 0, sizeof(real) * n);
            memset(l->seg_dc + i * n, 0, sizeof(real) * n);
        }
    }
    cell_accumulate(l, k * rows, l->seg_d_pre, l->seg_xh);
    if (input_credit) cell_input_credit(l, k * rows, l->seg_d_pre, input_credit);
}

/* What is to be told of the chosen `slot`s (B, R), ring position 0 being step `origin`: `whole` (3, B, R), the steps of their
   greatest recall and of their birth and the lag between them, and `numbers` (2, B, R), that recall's weight and loss. */
void sab_describe(const Learner *l, const int64_t *slot, int64_t origin, int64_t *whole, real *numbers)
{
    const int64_t places = l->streams * l->budget;
    for (int64_t i = 0; i < places; i++) {
        const int64_t b = i / l->budget, place = b * l->slots + slot[i];
        whole[i] = l->when[place] + origin;
        whole[places + i] = l->slot_stamp[place + b];
        whole[2 * places + i] = whole[i] - whole[places + i];
        numbers[i] = l->best[place];
        numbers[places + i] = l->loss[l->when[place] * l->streams + b];
    }
}
