/* sentencepiece.h: tokenizer.model, the protobuf file of the sentencepiece library (a ModelProto), read into plain tables.
 *
 *   ModelProto       1 pieces (1 piece, 2 score, 3 type) │ 2 trainer_spec │ 3 normalizer_spec │ 5 denormalizer_spec
 *   trainer_spec     3 model_type │ 24 treat_whitespace_as_suffix │ 35 byte_fallback │ 44 unk_surface │ 45 unk_piece │ 46 bos_piece
 *                    │ 47 eos_piece
 *   normalizer_spec  1 name │ 2 precompiled_charsmap │ 3 add_dummy_prefix │ 4 remove_extra_whitespaces │ 5 escape_whitespaces
 *
 * Other fields are passed over. A message that comes twice is merged, the last scalar counts, as protobuf has it.
 * Refused, as the library does: pieces that are empty or stand twice, no or more than one unknown piece, byte pieces
 * without byte_fallback, byte_fallback without all 256 of them. */
#ifndef QN_FORMATS_SENTENCEPIECE_SENTENCEPIECE_H
#define QN_FORMATS_SENTENCEPIECE_SENTENCEPIECE_H

#include "base/alloc.h"

enum {
    QN_SP_PIECES_MAX = 1 << 24,
    QN_SP_PIECE_MAX = 1 << 16,     /* bytes of a piece, of a name, of the unknown surface */
    QN_SP_CHARSMAP_MAX = 64 << 20  /* bytes */
};

typedef enum qn_sp_type {
    QN_SP_NORMAL = 1,
    QN_SP_UNKNOWN = 2,
    QN_SP_CONTROL = 3,
    QN_SP_USER_DEFINED = 4,
    QN_SP_UNUSED = 5,
    QN_SP_BYTE = 6
} qn_sp_type;

typedef enum qn_sp_kind { QN_SP_UNIGRAM = 1, QN_SP_BPE = 2, QN_SP_WORD = 3, QN_SP_CHAR = 4 } qn_sp_kind;

typedef struct qn_sp_piece {
    const char *s; /* NUL-terminated, without a NUL inside */
    uint32_t n;
    float score;   /* finite */
    uint8_t type;  /* qn_sp_type */
} qn_sp_piece;

typedef struct qn_sp_spec {
    const char *name;
    const uint8_t *charsmap; /* see analysis/tokenize/charsmap.h; not looked into here */
    uint64_t n_charsmap;
    bool there;              /* the file has one */
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
} qn_sp_spec;

typedef struct qn_sp_model {
    qn_sp_piece *pieces; /* by id */
    uint64_t n_pieces;
    qn_sp_kind kind;
    bool treat_whitespace_as_suffix, byte_fallback;
    uint32_t unk, bos, eos; /* bos, eos: UINT32_MAX when there is none */
    const char *unk_surface; /* what an unknown piece is decoded to */
    qn_sp_spec normalizer, denormalizer;
} qn_sp_model;

/* Exactly n bytes at off. */
typedef qn_code (*qn_sp_read_fn)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

/* May these first n bytes be such a file's? */
bool qn_sp_probe(const uint8_t *head, size_t n);
/* Everything goes into the arena. */
qn_code qn_sp_read(qn_sp_model *m, qn_arena *arena, qn_sp_read_fn read, void *ctx, uint64_t n_bytes, qn_err *err) QN_MUST_CHECK;
/* 0 to 255 for "<0xHH>" with upper-case digits, else -1. */
int qn_sp_byte_of(const char *piece, size_t n);

#endif
