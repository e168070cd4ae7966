/* Matrix products of the sizes a learner has: 1 to some thousand rows, 10 to some thousand columns.

   One register tile of MR rows by NV vectors serves all three: C += A B^T with B packed once per update, C += A B, and
   C += A^T B. Vectors lie along the columns of C, so that an entry of C is one sum over k in rising order whatever the
   tile it falls into. */

#include <string.h>

#include "learner.h"

#define LANES ((int64_t)(VECTOR_BYTES / sizeof(real)))
#define NR (NV * LANES)
/* Depth of a block: KC x NR numbers, the panel that all rows meet, stay in the first-level cache. */
#define KC 192
/* From this many rows on copying a panel pays. */
#define COPY_ROWS 64

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* Rows of a transposed A that are copied together, so that a block of KC of its columns stays in the second-level cache. */
#define MC 256
/* Multiplications in the time that a number takes to be packed. */
#define MOVED 32
/* From so many numbers of A on that copy pays: as it lies each tile would meet a page of memory for each k. */
#define COPY_LEFT (1 << 19)

static _Thread_local real panel[KC * NR] __attribute__((aligned(64)));
static _Thread_local real left[KC * MC] __attribute__((aligned(64)));

static inline vec load(const real *p) { return *(const loose *)p; }
static inline void store(real *p, vec v) { *(loose *)p = v; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t padded(int64_t columns) { return (columns + LANES - 1) / LANES * LANES; }

/* Adds to `columns` columns of C (mr rows) the product of A, entry (i, k) at a[i*row + k*col], and B (depth rows). */
static inline __attribute__((always_inline)) void tile(
    const int mr, const int nv, int64_t depth, const real *a, int64_t row, int64_t col, const real *b, int64_t ldb,
    real *c, int64_t ldc, int64_t columns)
{
    vec sum[MR][NV];
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) sum[i][j] = (vec){0};
    for (int64_t k = 0; k < depth; k++) {
        vec right[NV];
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) right[j] = load(b + k * ldb + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < mr; i++) {
            const real left = a[i * row + k * col];
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++) sum[i][j] += left * right[j];
        }
    }
    const int whole = columns == nv * LANES;
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
            real *p = c + i * ldc + j * LANES;
            if (whole || (j + 1) * LANES <= columns) {
                store(p, load(p) + sum[i][j]);
            } else {
                for (int64_t l = 0; l < columns - j * LANES; l++) p[l] += sum[i][j][l];
            }
        }
}

#define TILE(mr, nv)                                                                                                   \
    static __attribute__((noinline)) void tile_##mr##_##nv(                                                            \
        int64_t depth, const real *a, int64_t row, int64_t col, const real *b, int64_t ldb, real *c, int64_t ldc,      \
        int64_t columns)                                                                                               \
    {                                                                                                                  \
        tile(mr, nv, depth, a, row, col, b, ldb, c, ldc, columns);                                                     \
    }
#define TILES(mr) TILE(mr, 1) TILE(mr, 2) TILE(mr, 3)
TILES(1)
TILES(2)
TILES(4)
#if MR == 8
TILES(8)
#endif

typedef void (*Tile)(
    int64_t, const real *, int64_t, int64_t, const real *, int64_t, real *, int64_t, int64_t);

/* All rows against one panel of at most NR columns. */
static void all_rows(
    int64_t rows, int64_t depth, const real *a, int64_t row, int64_t col, const real *b, int64_t ldb, real *c,
    int64_t ldc, int64_t columns)
{
    static const Tile one[] = {tile_1_1, tile_1_2, tile_1_3}, two[] = {tile_2_1, tile_2_2, tile_2_3},
                      four[] = {tile_4_1, tile_4_2, tile_4_3};
    const int64_t nv = padded(columns) / LANES - 1;
    int64_t i = 0;
#if MR == 8
    static const Tile eight[] = {tile_8_1, tile_8_2, tile_8_3};
    for (; i + 8 <= rows; i += 8) eight[nv](depth, a + i * row, row, col, b, ldb, c + i * ldc, ldc, columns);
#endif
    for (; i + 4 <= rows; i += 4) four[nv](depth, a + i * row, row, col, b, ldb, c + i * ldc, ldc, columns);
    if (i + 2 <= rows) {
        two[nv](depth, a + i * row, row, col, b, ldb, c + i * ldc, ldc, columns);
        i += 2;
    }
    if (i < rows) one[nv](depth, a + i * row, row, col, b, ldb, c + i * ldc, ldc, columns);
}

/* Numbers in the packed transpose of a matrix (columns, depth). */
int64_t sab_packed_size(int64_t columns, int64_t depth) { return padded(columns) * depth; }

/* A product as it is shared out: C (rows, columns) += A B, entry (i, k) of A at a[i*row + k*col], B (depth, columns) where
   it lies or packed; or the packing of B alone. */
typedef struct {
    int64_t rows, columns, depth;
    const real *a;
    int64_t row, col;
    const real *b;
    int64_t ldb;
    real *c;
    int64_t ldc;
} Product;

static inline int64_t panels_of(int64_t columns) { return (columns + NR - 1) / NR; }

/* Packs one panel of the transpose of B (columns, depth): (depth, NR), the last one narrower and padded by zeros. */
static void pack_panel(const void *task, int64_t which)
{
    const Product *p = task;
    const int64_t j = which * NR, depth = p->depth, here = least(NR, p->columns - j), wide = padded(here);
    real *packed = p->c + depth * j;
    for (int64_t k = 0; k < depth; k += 16) {
        const int64_t end = least(depth, k + 16);
        for (int64_t l = 0; l < here; l++)
            for (int64_t t = k; t < end; t++) packed[t * wide + l] = p->b[(j + l) * depth + t];
        for (int64_t l = here; l < wide; l++)
            for (int64_t t = k; t < end; t++) packed[t * wide + l] = 0;
    }
}

/* Packs the transpose of B (columns, depth), panel after panel. */
static void pack(int64_t columns, int64_t depth, const real *b, real *packed)
{
    const Product p = {.columns = columns, .depth = depth, .b = b, .c = packed};
    share(panels_of(columns), MOVED * columns * depth, pack_panel, &p);
}

static void packed_panel(const void *task, int64_t which)
{
    const Product *p = task;
    const int64_t j = which * NR, here = least(NR, p->columns - j), wide = padded(here);
    const real *packed = p->b + p->depth * j;
    for (int64_t k = 0; k < p->depth; k += KC)
        all_rows(p->rows, least(KC, p->depth - k), p->a + k, p->row, 1, packed + k * wide, wide, p->c + j, p->ldc, here);
}

/* C (rows, columns) += A (rows, depth) B^T, with B^T packed. */
static void times_packed(
    int64_t rows, int64_t columns, int64_t depth, const real *a, int64_t lda, const real *packed, real *c, int64_t ldc)
{
    const Product p = {rows, columns, depth, a, lda, 1, packed, 0, c, ldc};
    share(panels_of(columns), rows * columns * depth, packed_panel, &p);
}

/* Copies (depth, columns) of B, columns <= NR, each row padded by zeros to whole vectors. */
static void copy_panel(int64_t depth, int64_t columns, const real *b, int64_t ldb, real *copy)
{
    const int64_t wide = padded(columns);
    for (int64_t k = 0; k < depth; k++, b += ldb) {
        real *to = copy + k * wide;
        int64_t j = 0;
        for (; j + LANES <= columns; j += LANES) store(to + j, load(b + j));
        if (j < columns) {
            vec rest = {0};
            for (int64_t l = 0; j + l < columns; l++) rest[l] = b[j + l];
            store(to + j, rest);
        }
    }
}

static void pack_plain_panel(const void *task, int64_t which)
{
    const Product *p = task;
    const int64_t j = which * NR;
    copy_panel(p->depth, least(NR, p->columns - j), p->b + j, p->ldb, p->c + p->depth * j);
}

/* Packs B (depth, columns) itself as `pack` does its transpose, for times_packed. */
static void pack_plain(int64_t columns, int64_t depth, const real *b, int64_t ldb, real *packed)
{
    const Product p = {.columns = columns, .depth = depth, .b = b, .ldb = ldb, .c = packed};
    share(panels_of(columns), MOVED * columns * depth, pack_plain_panel, &p);
}

static void product_panel(const void *task, int64_t which)
{
    const Product *p = task;
    const int64_t j = which * NR, here = least(NR, p->columns - j), wide = padded(here);
    for (int64_t k = 0; k < p->depth; k += KC) {
        const int64_t deep = least(KC, p->depth - k);
        const real *from = p->b + k * p->ldb + j;
        int64_t stride = p->ldb;
        if (p->rows >= COPY_ROWS || wide != here) {
            copy_panel(deep, here, from, p->ldb, panel);
            from = panel;
            stride = wide;
        }
        all_rows(p->rows, deep, p->a + k * p->col, p->row, p->col, from, stride, p->c + j, p->ldc, here);
    }
}

/* C (rows, columns) += A B with A (rows, depth) and B (depth, columns). */
static void times(
    int64_t rows, int64_t columns, int64_t depth, const real *a, int64_t lda, const real *b, int64_t ldb, real *c,
    int64_t ldc)
{
    const Product p = {rows, columns, depth, a, lda, 1, b, ldb, c, ldc};
    share(panels_of(columns), rows * columns * depth, product_panel, &p);
}

/* MC rows of C against all of B, a block of KC of A's columns at a time and copied. */
static void copied_rows(const void *task, int64_t which)
{
    const Product *p = task;
    const int64_t i = which * MC, high = least(MC, p->rows - i);
    for (int64_t k = 0; k < p->depth; k += KC) {
        const int64_t deep = least(KC, p->depth - k);
        for (int64_t t = 0; t < deep; t++) memcpy(left + t * MC, p->a + (k + t) * p->col + i, sizeof(real) * high);
        const Product block = {high, p->columns, deep, left, 1, MC, p->b + k * p->ldb, p->ldb, p->c + i * p->ldc, p->ldc};
        for (int64_t j = 0; j < panels_of(p->columns); j++) product_panel(&block, j);
    }
}

/* C (rows, columns) += A^T B with A (depth, rows) and B (depth, columns). */
static void transposed_times(
    int64_t rows, int64_t columns, int64_t depth, const real *a, int64_t lda, const real *b, int64_t ldb, real *c,
    int64_t ldc)
{
    const Product p = {rows, columns, depth, a, 1, lda, b, ldb, c, ldc};
    if (rows * depth < COPY_LEFT)
        share(panels_of(columns), rows * columns * depth, product_panel, &p);
    else
        share((rows + MC - 1) / MC, rows * columns * depth, copied_rows, &p);
}
