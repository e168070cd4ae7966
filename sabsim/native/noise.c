/* Exploration's noise from raw random numbers: those that torch's exponential distribution takes from the same generator. */

#include "learner.h"

/* log(v) for 0 < v < infinity, normal: v = 2^e f with f in [sqrt(1/2), sqrt(2)), and log f = 2 artanh((f-1)/(f+1)) by its series,
   whose remainder is below a unit in the last place. */
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

/* noise[i] = -log(e), with e = -log(1 - u) exponentially distributed and u the lowest 53 bits of raw[i] as a fraction. */
void sab_noise(int64_t count, const int64_t *raw, real *noise)
{
    for (int64_t i = 0; i < count; i++) {
        const int64_t bits = (raw[i] & 0xfffffffffffff) | 0x3ff0000000000000, high = raw[i] >> 52 & 1;
        double low;
        memcpy(&low, &bits, sizeof low);
        /* `low` is 1 + the lowest 52 bits as a fraction; 1 - u is exact. */
        const double rest = high ? 1 - 0.5 - 0.5 * (low - 1) : 1 - 0.5 * (low - 1);
        real e = (real)-logarithm(rest);
        e = e < (real)1e-30 ? (real)1e-30 : e;
        noise[i] = (real)-logarithm((double)e);
    }
}
