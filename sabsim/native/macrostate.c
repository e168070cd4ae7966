/* The macrostate: streams emptied at a reset, and the finished block's microstates that push out lower ones. */

#include "learner.h"

/* Makes every slot of the streams in `done` (B) unreadable; contents stay for credit still under way. */
void sab_clear(const Learner *l, const uint8_t *done)
{
    for (int64_t b = 0; b < l->streams; b++)
        for (int64_t i = b * (l->slots + 1); done[b] && i < (b + 1) * (l->slots + 1) - 1; i++) {
            l->slot_empty[i] = 1;
            l->slot_score[i] = -INFINITY;
        }
}

/* The streams in `done` (B) begin a sequence: whether it explores was tossed before. */
void sab_toss(const Learner *l, const uint8_t *done)
{
    for (int64_t b = 0; b < l->streams; b++)
        if (done[b]) {
            l->exploring[b] = l->coin[b];
            l->exploring_sharpness[b] = l->coin[b] != 0 ? (real)(1 / l->temperature) : 1;
        }
}

/* Whether slot i of a stream, whose slots begin at `base`, goes before slot j: the lower score; of equal ones the newer. */
static int goes_first(const Learner *l, int64_t base, int64_t i, int64_t j)
{
    if (l->standing[i] != l->standing[j]) return l->standing[i] < l->standing[j];
    const int64_t born_i = l->slot_empty[base + i] ? -1 : l->slot_stamp[base + i];
    const int64_t born_j = l->slot_empty[base + j] ? -1 : l->slot_stamp[base + j];
    return born_i != born_j ? born_i > born_j : i < j;
}

/* Writes the state of stream b at ring position t into `place`: value, segment, where it began, and when. */
static void write_slot(const Learner *l, int64_t t, int64_t b, int64_t place, int64_t birth, double score, int64_t after)
{
    const int64_t n = l->n, d = l->d_in, k = l->k_trunc, streams = l->streams, wide = d + n, row = t * streams + b;
    const real *value = after ? l->readout + row * 2 * n : l->h_hat + row * n;
    memcpy(l->slot_m + place * n, value, sizeof(real) * n);
    for (int64_t j = 0; j < k; j++) {
        const int64_t from = row - (k - 1 - j) * streams;
        real *to = l->slot_segment + (place * k + j) * wide;
        memcpy(to, l->xh + from * wide, sizeof(real) * wide);
        if (j && l->passing) memset(to + d, 0, sizeof(real) * n);
        else if (j) memcpy(to + d, l->s + (from - streams) * n, sizeof(real) * n);
        const int64_t bytes = l->observed;
        if (bytes) memcpy(l->slot_observation + (place * k + j) * bytes, l->observation + from * bytes, bytes);
    }
    memcpy(l->slot_c + place * n, l->c + (row - (k - 1) * streams) * n, sizeof(real) * n);
    if (l->carried) memcpy(l->slot_carried + place * n, l->carried + (row + streams) * n, sizeof(real) * n);
    l->slot_length[place] = least(l->local[row] + 1, k);
    l->slot_stamp[place] = birth;
    l->slot_score[place] = score;
    l->slot_empty[place] = 0;
}

/* Offers the finished block, whose last step is `now`: slots by rising score meet offers by falling score, and each pair is
   exchanged where the offer is higher. Those born after `safe_after` are protected. Offered are the states of the sequence
   each stream is in, at every k_att-th of its steps; `after`: what is kept is h, not h_hat. */
void sab_offer(const Learner *l, int64_t now, int64_t safe_after, int64_t k_att, int64_t after)
{
    const int64_t streams = l->streams, slots = l->slots, block = l->block, pairs = least(slots, block);
    for (int64_t b = 0; b < streams; b++) {
        /* Of the empty slots at the end, more than can be taken need no look. */
        const int64_t base = b * (slots + 1), looked_at = least(slots, count_filled(l, b) + pairs);
        for (int64_t i = 0; i < looked_at; i++) {
            const int64_t place = base + i;
            l->standing[i] = l->slot_empty[place]              ? -INFINITY
                             : l->slot_stamp[place] > safe_after ? INFINITY
                                                                 : l->slot_score[place];
        }
        int64_t offers = 0;
        for (int64_t t = 0; t < block; t++) {
            double *score = l->offered + t * streams + b;
            if (!is_offered(l, t, b, k_att) || !isfinite(*score)) *score = -INFINITY;
            offers += *score > -INFINITY;
        }
        l->slot_refused[0] += offers;
        int64_t found = 0;
        for (int64_t i = 0; i < looked_at; i++) {
            const int64_t wanted = least(pairs, offers);
            if (found == wanted && (!wanted || !goes_first(l, base, i, l->order[found - 1]))) continue;
            int64_t j = found < wanted ? found++ : found - 1;
            for (; j > 0 && goes_first(l, base, i, l->order[j - 1]); j--) l->order[j] = l->order[j - 1];
            l->order[j] = i;
        }
        for (int64_t pair = 0; pair < found; pair++) {
            int64_t best = -1;
            double most = -INFINITY;
            for (int64_t t = 0; t < block; t++) {
                const double score = l->offered[t * streams + b];
                if (score == -INFINITY) continue;
                const double standing = now - block + 1 + t > safe_after ? INFINITY : score;
                if (best < 0 || standing > most) {
                    best = t;
                    most = standing;
                }
            }
            double *score = l->offered + best * streams + b;
            if (!(most > l->standing[l->order[pair]])) break;
            const int64_t place = base + l->order[pair];
            write_slot(l, l->history + best, b, place, now - block + 1 + best, *score, after);
            *score = -INFINITY;
            l->slot_refused[0]--;
        }
    }
}
