/* What every call may touch: the sizes of one learner and where its buffers are.

   The buffers belong to torch tensors that live as long as the learner; nothing is allocated here. sabsim.native.bindings
   reads the fields from this file, so each stands on a line of its own: type, name, and in the comment its shape.

   B streams, n hidden units, d inputs, o outputs, S slots, K reads a step, k = k_trunc, L = history + block + 1, w the width
   of the readout's input (n, with recall 2 n), R replays a stream, U = B K k recalls in a chain. `real` is float or double,
   given as -DREAL. */

#ifndef SABSIM_LEARNER_H
#define SABSIM_LEARNER_H

#include <stdint.h>

typedef REAL real;

typedef struct {
    int64_t streams;
    int64_t d_in;
    int64_t n;
    int64_t d_out;
    int64_t slots; /* 0: no recall */
    int64_t reads;
    int64_t history;
    int64_t block;
    int64_t k_trunc;
    int64_t budget; /* R */
    double temperature; /* of recall in the streams that explore */
    double taught_until; /* these teach the sharpness as long as it is below this */
    int64_t observed; /* bytes of an observation; 0: none are kept */
    int64_t lazy; /* whether keys may be older than the parameters: keys.c */
    int64_t room; /* C, exact keys kept beside older ones, a stream */

    /* Parameters, their gradients, and the transposed weights in panels (gemm.c). */
    const real *W;         /* (4n, d+n) */
    const real *b;         /* (4n) */
    const real *W_q;       /* (n, n) */
    const real *W_k;       /* (n, n) */
    const real *sharpness; /* (1) */
    const real *W_out;     /* (o, w) */
    const real *b_out;     /* (o) */
    real *dW;              /* as W */
    real *db;              /* as b */
    real *dW_q;            /* as W_q */
    real *dW_k;            /* as W_k */
    real *dsharpness;      /* as sharpness */
    real *dW_out;          /* as W_out */
    real *db_out;          /* as b_out */
    real *packed_W;        /* W^T */
    real *packed_W_q;      /* W_q^T */
    real *packed_W_k;      /* W_k^T */
    real *packed_W_out;    /* W_out^T */
    real *packed_back_W_h; /* W_h, for the way back; only with many streams or units */
    real *packed_back_W_q; /* W_q, as well */

    /* Rings, tape and trace of the window. */
    real *xh;        /* (L+1, B, d+n) */
    real *c;         /* (L+1, B, n) */
    real *h_hat;     /* (L, B, n) */
    real *readout;   /* (L, B, w) */
    real *keep;      /* (L, B) */
    real *signal;    /* (L, B, o) */
    real *loss;      /* (L, B) */
    int64_t *local;  /* (L, B) */
    real *s;         /* (L, B, n) */
    real *m;         /* (L, B, K, n) */
    real *weight;    /* (L, B, K) */
    real *scale;     /* (L, B) */
    int64_t *index;  /* (L, B, K) */
    int64_t *stamp;  /* (L, B, K) */
    char *observation; /* (L, B, observed) */
    real *gates;     /* (L, B, 4n) */
    real *tanh_c;    /* (L, B, n) */
    real *d_pre;     /* (L, B, 4n) */
    real *q;         /* (L, B, n) */
    real *q_norm;    /* (L, B) */
    real *dq;        /* (L, B, n) */
    real *y;         /* (B, o) */
    const real *mask; /* (B, w) what the readout's input is multiplied by in learning; NULL: nothing */
    const real *carried_now; /* (B, n) what h is multiplied by on its way into the next step in learning; NULL: nothing */
    real *carried;   /* (L+1, B, n) what it was multiplied by on its way into each step; NULL: nothing */
    real *masked;    /* (block, B, w) the readout's input so multiplied */
    int64_t *age;    /* (B) steps each stream has taken in its sequence */
    real *keys;      /* (B, S, n) of length 1 */
    real *key_norm;  /* (B, S) |W_k m| of the microstate a key was made of */
    real *key_sharpness; /* (1) g at the block's beginning: within a block what a score is made of does not change */
    int64_t *key_stamp; /* (B, S) slot_stamp of the microstate a key was made of */
    real *stretch;   /* (B, S) |m| / |W_k m| as it was when the key was made */
    real *base_W_k;  /* (n, n) the W_k that older keys were made with */
    real *packed_base; /* its transpose */
    double *drift;   /* (2) |W_k - base_W_k| and |W_k| */
    int64_t *spent;  /* (1) exact keys made since base_W_k was W_k */
    int64_t *plain;  /* (B) for how many blocks more all keys of a stream are exact */
    real *exact;     /* (B, C, n) exact keys */
    int64_t *exact_slot; /* (B, C) of which slots */
    int64_t *exact_count; /* (B) how many */
    int64_t *exact_at; /* (B, S) where in `exact` a slot's key is, from 1 on; 0: nowhere */
    real *bound;     /* (S) what a slot's choice cannot exceed; with exact keys the products of keys and query */
    int64_t *filled; /* (B) slots from this one on are empty */
    real *noise;     /* (block, B, S); NULL where nothing explores */
    real *exploring; /* (B) */
    real *familiar_low; /* (n) */
    real *familiar_high; /* (n) */
    real *strange; /* (B) whether a stream has explored in the block under way */
    real *coin;      /* (B) */
    real *exploring_sharpness; /* (B) what scores are multiplied by */

    /* The macrostate; one spare slot a stream. */
    real *slot_m;          /* (B, S+1, n) */
    real *slot_segment;    /* (B, S+1, k, d+n) */
    real *slot_c;          /* (B, S+1, n) */
    real *slot_carried;    /* (B, S+1, n) what h is multiplied by between the segment's steps; NULL: nothing */
    int64_t *slot_length;  /* (B, S+1) */
    int64_t *slot_stamp;   /* (B, S+1) */
    double *slot_score;    /* (B, S+1) */
    uint8_t *slot_empty;   /* (B, S+1) */
    int64_t *slot_refused; /* (1) */
    char *slot_observation; /* (B, S+1, k, observed) */

    /* What the chain's VJP leaves, and its scratch. */
    real *credit;          /* (B, S, n) */
    real *best;            /* (B, S) greatest recall weight */
    int64_t *when;         /* (B, S) ring position of that recall */
    int64_t *touched;      /* (B, K k) slots whose credit and best are set, rising */
    int64_t *touches;      /* (B) how many */
    real *score;           /* (2 K) scores, and what the choice goes by */
    real *dy;              /* (block, B, w) */
    real *dh;              /* (B, n) */
    real *passing;         /* (B, n) credit on h_hat that passes by what was recalled; NULL: the next step gets h */
    real *dc;              /* (B, n) */
    real *ds;              /* (k, B, n) */
    real *da;              /* (k, B, K) */
    int64_t *which;        /* (k, B, K) */
    int64_t *held_stamp;   /* (U) when a distinct microstate was formed */
    int64_t *held_slot;    /* (U) row of its key in `keys`; -1: it is in held_k */
    real *held_m;          /* (U, n) */
    real *held_k;          /* (U, n) */
    real *held_norm;       /* (U) */
    real *held_turn;       /* (U) how much of its key a microstate's credit loses */
    real *held_dk;         /* (U, n) */
    real *held_dm;         /* (U, n) */

    /* Replay. */
    int64_t *rows;         /* (B R) rows of the macrostate */
    real *seg_xh;          /* (k, B R, d+n) */
    real *seg_c;           /* (k+1, B R, n) */
    real *seg_h;           /* (B R, n) */
    real *seg_gates;       /* (k, B R, 4n) */
    real *seg_tanh_c;      /* (k, B R, n) */
    real *seg_d_pre;       /* (k, B R, 4n) */
    real *seg_dh;          /* (B R, n) */
    real *seg_dc;          /* (B R, n) */

    /* The usual input. */
    real *usual_mean;      /* (d) */
    int64_t *usual_steps;  /* (1) */
    real *usual_xh;        /* (block B, d+n) */
    real *usual_gates;     /* (block B, 4n) */
    int64_t *usual_place;  /* (block B) which of the block's states a row is */
    real *usual_before;    /* (block B, n) */
    real *usual_c;         /* (block B, n) */
    real *usual_tanh_c;    /* (block B, n) */
    real *usual_h;         /* (block B, n) */

    /* The offer. */
    double *offered;       /* (block, B) scores; -inf: not offered */
    double *standing;      /* (S) scores of the slots with the protected ones at infinity */
    int64_t *order;        /* (S) */
} Learner;

/* What a network with self-attention has beside the fields of its Learner that say of sizes, cell and readout: `history` is
   0, and L the steps that are kept: of a whole sequence where it learns, 1 where it only plays. */
typedef struct {
    int64_t learning;
    int64_t steps;  /* of a sequence that is learned from */
    int64_t slots;  /* S */
    int64_t buffer; /* nu, slots of the short-term buffer; 0: every state is kept, in the order in which they came */
    const real *V_a; /* (n, n) */
    const real *U_a; /* (n, n) */
    const real *v;   /* (n) */
    real *dV_a;      /* as V_a */
    real *dU_a;      /* as U_a */
    real *dv;        /* as v */
    real *packed_V_a; /* V_a^T */
    real *packed_U_a; /* U_a^T */

    /* What each step met and made. */
    real *h;    /* (L, B, n) */
    real *k;    /* (L, B, n) */
    real *q;    /* (L, B, n) */
    real *on_h; /* (L, B, n) credit on them */
    real *on_k; /* (L, B, n) */
    real *on_q; /* (L, B, n) */

    /* What can be attended to. */
    real *slot_h;      /* (B, S, n) */
    real *slot_k;      /* (B, S, n) */
    real *slot_grown;  /* (B, S, n) exp(2 k) */
    real *credit_h;    /* (B, S, n) on the way back */
    real *credit_k;    /* (B, S, n) to be multiplied by v */
    int64_t *born;     /* (B, S) */
    int64_t *held;     /* (L, B, S) `born` as each step could read it; NULL: it only grows */
    real *alpha;       /* (L, B, S) */
    real *relevance;   /* (B, S) */
    int64_t *place;    /* (L, B) slot that the state which left the buffer went to, if it was accepted */
    int64_t *ousted;   /* (L, B) step of the state that was there; -1: none */
    uint8_t *accepted; /* (L, B) */

    /* Scratch. */
    real *grown_q; /* (n) exp(2 q) of one stream */
    real *d_e;     /* (S) */
} Attentive;

/* One update of the flat parameter vector by Adam; the fields are those of sabsim.optim.Adam. */
typedef struct {
    int64_t size;
    int64_t decay_first; /* the part of the parameters that weight decay shrinks: first and past-the-last place */
    int64_t decay_last;
    int64_t schedule; /* constant, inverse, rsqrt, linear, cosine */
    int64_t amsgrad;
    double lr;
    double decay_updates;
    double restarts;
    double warmup_updates;
    double beta_1;
    double beta_2;
    double eps;
    double clip;
    double spike;
    double usual_decay;
    double outlier;
    double least_usual;
    double lr_floor;
    double average_decay;
    double weight_decay;
    real *flat;
    real *grad;
    real *mean;
    real *square;
    real *ceiling;
    real *norm;
    real *mean_square_norm;
    real *greatest_mean_square;
    double *signals;
    const double *counts; /* (1) as how many signals an update counts; NULL: one */
    real *average; /* NULL: not kept */
    int64_t *updates;
} Adam;

#endif
