/* Exploration's noise: the numbers that torch's exponential distribution would draw from the same generator, a Mersenne twister
   (Matsumoto & Nishimura 1998), whose saved state is read and written here. The backend compares a few numbers with torch's
   before it relies on this. */

#include "learner.h"

/* log(v) of a positive normal number: v = 2^e f with f in [sqrt(1/2), sqrt(2)), and log f = 2 artanh((f-1)/(f+1)) by its
   series, whose remainder is below a unit in the last place. */
static inline double logarithm(double v)
{
    const uint64_t half = 0x3fe6a09e667f3bcd, bias = 1023, magic = 0x4330000000000000; /* sqrt(1/2); 2^52 */
    uint64_t b;
    memcpy(&b, &v, sizeof b);
    const uint64_t e = (b - half + (bias << 52)) >> 52, integer = e | magic;
    b -= (e - bias) << 52;
    double f, exponent;
    memcpy(&f, &b, sizeof f);
    memcpy(&exponent, &integer, sizeof exponent);
    exponent -= 4503599627370496.0 + 1023;
    const double s = (f - 1) / (f + 1), z = s * s;
    double p = 1. / 21;
    p = p * z + 1. / 19;
    p = p * z + 1. / 17;
    p = p * z + 1. / 15;
    p = p * z + 1. / 13;
    p = p * z + 1. / 11;
    p = p * z + 1. / 9;
    p = p * z + 1. / 7;
    p = p * z + 1. / 5;
    p = p * z + 1. / 3;
    return exponent * 0.69314718055994530942 + (2 * s + 2 * s * z * p);
}

#define WORDS 624
#define AHEAD 397
#define CHUNK 128

/* A generator as torch saves it. */
typedef struct {
    uint64_t seed;
    int32_t left; /* words left before the next 624 are made, and one more */
    int32_t seeded;
    uint64_t next;
    uint64_t words[WORDS];
} Generator;

static inline uint32_t twist(uint32_t upper, uint32_t lower)
{
    return (((upper & 0x80000000) | (lower & 0x7fffffff)) >> 1) ^ (-(lower & 1) & 0x9908b0df);
}

/* The next 624 words. Words are made of earlier ones at least 227 places back, far more than a vector holds. */
static void next_words(uint32_t *w)
{
#pragma GCC ivdep
    for (int64_t i = 0; i < WORDS - AHEAD; i++) w[i] = w[i + AHEAD] ^ twist(w[i], w[i + 1]);
#pragma GCC ivdep
    for (int64_t i = WORDS - AHEAD; i < WORDS - 1; i++) w[i] = w[i + AHEAD - WORDS] ^ twist(w[i], w[i + 1]);
    w[WORDS - 1] = w[AHEAD - 1] ^ twist(w[WORDS - 1], w[0]);
}

/* `count` numbers of 32 bits: runs of words, tempered. */
static void draw_words(uint32_t *w, int64_t *next, int64_t count, uint32_t *to)
{
    while (count) {
        if (*next == WORDS) {
            next_words(w);
            *next = 0;
        }
        const int64_t here = least(count, WORDS - *next);
        for (int64_t i = 0; i < here; i++) {
            uint32_t y = w[*next + i];
            y ^= y >> 11;
            y ^= y << 7 & 0x9d2c5680;
            y ^= y << 15 & 0xefc60000;
            to[i] = y ^ y >> 18;
        }
        *next += here;
        to += here;
        count -= here;
    }
}

/* noise[i] = -log(e), with e = -log(1 - u) exponentially distributed and u a number of 53 bits as a fraction; `saved` is the
   state of torch's generator, which moves on. */
void sab_noise(int64_t count, uint8_t *saved, real *noise)
{
    Generator *g = (Generator *)saved;
    uint32_t words[WORDS], drawn[2 * CHUNK];
    for (int64_t i = 0; i < WORDS; i++) words[i] = (uint32_t)g->words[i];
    int64_t next = g->left == 1 ? WORDS : (int64_t)g->next;
    for (int64_t from = 0; from < count; from += CHUNK) {
        const int64_t here = least(CHUNK, count - from);
        draw_words(words, &next, 2 * here, drawn);
        for (int64_t i = 0; i < here; i++) {
            /* 1 - u is exact: 1 + the lowest 52 bits as a fraction, and the 53rd bit apart. */
            const uint64_t high = drawn[2 * i], one = 0x3ff0000000000000;
            const uint64_t bits = one | (high & 0xfffff) << 32 | drawn[2 * i + 1], top = one & -(high >> 20 & 1);
            double low, half;
            memcpy(&low, &bits, sizeof low);
            memcpy(&half, &top, sizeof half);
            const double rest = (1 - 0.5 * half) - 0.5 * (low - 1);
            real e = (real)-logarithm(rest);
            e = e < (real)1e-30 ? (real)1e-30 : e;
            noise[from + i] = (real)-logarithm((double)e);
        }
    }
    for (int64_t i = 0; i < WORDS; i++) g->words[i] = words[i];
    g->next = (uint64_t)next;
    g->left = (int32_t)(WORDS - next + 1);
}
