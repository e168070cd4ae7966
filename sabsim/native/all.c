/* The whole library as one unit of compilation, so that every helper can be inlined.

   Settings, all by -D: REAL (float or double) and WIDE (whether it is double); VECTOR_BYTES, and the register tile of
   gemm.c: MR rows (4 or 8) by NV = 3 vectors. */

#include "threads.c"
#include "gemm.c"
#include "elementwise.c"
#include "cell.c"
#include "keys.c"
#include "choice.c"
#include "recall.c"
#include "chain.c"
#include "replay.c"
#include "noise.c"
#include "novelty.c"
#include "familiar.c"
#include "macrostate.c"
#include "optimizer.c"
#include "attentive.c"
