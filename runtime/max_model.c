/* max_model.c: adaptive probabilities, logistic mixing and running scales; see max_model.h and docs/codecs/max.md.
 *
 * Mixing of predictions in the logistic domain is Mattern's and Mahoney's (M. Mahoney, "Adaptive weighing of context
 * models", FIT TR CS-2005-16): p = squash(Σ w_i stretch(p_i)), w_i += rate · stretch(p_i) · (bit − p), which is online
 * gradient descent on code length.
 *
 * The scale of a row and of a column is estimated online by the score of Student's t distribution with 5 degrees of
 * freedom: with z = |w|/σ, d(log likelihood)/d(log σ) = 6 z²/(5 + z²) − 1, whose steps shrink as 1/n (Robbins and Monro
 * with the inverse Fisher information, here 1.25 per weight, is as efficient as maximum likelihood). Unlike the mean of
 * log |w| it hardly looks at the tiny weights, and unlike the mean of w² outliers cannot drag it away. */
#include "runtime/max_model.h"
#include "base/err.h"
#include "base/num.h"

enum { WEIGHT_MAX = 1 << 22 }; /* 64.0: sums stay far from overflow whatever the data */

static inline int32_t clamp(int32_t v, int32_t lo, int32_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

bool qn_max_form_of(qn_dtype t, qn_max_form *f)
{
    static const qn_max_form forms[QN_DTYPE_PLAIN] = {
        [QN_F8_E4M3] = {1, 4, 3},  [QN_F8_E4M3FNUZ] = {1, 4, 3}, [QN_F8_E5M2] = {1, 5, 2},
        [QN_F8_E5M2FNUZ] = {1, 5, 2}, [QN_F16] = {2, 5, 10},     [QN_BF16] = {2, 8, 7},
        [QN_F32] = {4, 8, 23},     [QN_C64] = {4, 8, 23},        [QN_F64] = {8, 11, 52},
    };
    if ((unsigned)t >= QN_DTYPE_PLAIN || forms[t].unit_bytes == 0)
        return false;
    *f = forms[t];
    return true;
}

/* squash(x) = 1/(1 + e^−x) at x = k/256 by e^−x = Π e^−1/256 in 2^−40, and stretch as its inverse. */
static void tab_init(qn_max_tab *t)
{
    const uint64_t one = UINT64_C(1) << 40, fall = UINT64_C(4278222805); /* 2^32 e^(−1/256) */
    uint64_t e = one;
    for (unsigned k = 0; k < 2048; k++) {
        const uint16_t above = (uint16_t)((one << 16) / (one + e)); /* ≥ 1/2 */
        t->squash[2048 + k] = above;
        t->squash[2048 - k] = (uint16_t)(65536 - (k ? above : 32768));
        e = (e >> 8) * fall >> 24;
    }
    t->squash[0] = t->squash[1];
    unsigned x = 1;
    for (unsigned p = 0; p < 4096; p++) {
        while (x < 4095 && t->squash[x] < p * 16 + 8)
            x++;
        t->stretch[p] = (int16_t)((int)x - 2048);
    }
    /* the share of a new observation after n: 1/(n + 1.5) */
    for (unsigned n = 0; n <= QN_MAX_COUNT; n++)
        t->recip[n] = (uint16_t)(131072 / (2 * n + 3));
    /* z² = 2^(2d), d in 1/32 octave from −8; 2^(1/16) in 2^−16. Steps of log σ in octaves: score/(1.25 ln 2), 2^−12. */
    uint64_t z2 = UINT64_C(1) << 14;
    for (unsigned k = 0; k < QN_MAX_SCORES; k++) {
        const uint64_t five = UINT64_C(5) << 30;
        const int64_t s = (int64_t)((z2 * 6 << 12) / (five + z2)) - 4096;
        t->score[k] = (int16_t)(s * 4727 / 4096);
        z2 = z2 * 68438 >> 16;
    }
}

qn_code qn_max_init(qn_max *m, const qn_block *b, const qn_max_head *h, qn_arena *scratch, qn_err *err)
{
    m->head = *h;
    m->n = b->n;
    m->cols = b->cols;
    (void)qn_max_form_of(b->dtype, &m->form);
    tab_init(&m->tab);
    m->slot_bits = 10;
    while (m->slot_bits < 16 && (UINT32_C(1) << m->slot_bits) < b->n)
        m->slot_bits++;
    const size_t n_slots = (size_t)QN_MAX_INPUTS << m->slot_bits;
    m->slots = qn_arena_get(scratch, n_slots * sizeof *m->slots, 64, err);
    m->past = qn_arena_get(scratch, ((uint64_t)b->n + QN_MAX_LEAD) * sizeof *m->past, 64, err);
    m->col = qn_arena_get(scratch, (uint64_t)b->cols * sizeof *m->col, 64, err);
    m->col_sign = qn_arena_get(scratch, (uint64_t)b->cols * sizeof *m->col_sign, 64, err);
    if (!m->slots || !m->past || !m->col || !m->col_sign)
        return QN_E_MEMORY;
    memset(m->slots, 0, n_slots * sizeof *m->slots);
    memset(m->col, 0, b->cols * sizeof *m->col);
    memset(m->col_sign, 0, b->cols * sizeof *m->col_sign);
    for (unsigned i = 0; i < QN_MAX_LEAD; i++)
        m->past[i] = h->scale << 5;
    m->whole = m->near = m->row_alone = (int32_t)h->scale << 12;
    m->row = 0;
    m->row_sign = 0;
    for (unsigned s = 0; s < QN_MAX_SETS_A; s++)
        for (unsigned k = 0; k < QN_MAX_INPUTS; k++)
            m->weights_a[s][k] = 65536 / QN_MAX_INPUTS;
    memset(m->weights_b, 0, sizeof m->weights_b);
    memset(m->seen_a, 0, sizeof m->seen_a);
    return QN_OK;
}

uint32_t qn_max_predict(qn_max *m, const uint32_t ctx[QN_MAX_INPUTS], unsigned set_a, unsigned set_b)
{
    const unsigned shift = 32 - m->slot_bits;
    int64_t sum = 0;
    m->wa = m->weights_a[set_a];
    m->wb = m->weights_b[set_b];
    m->seen = &m->seen_a[set_a];
    uint32_t base = UINT32_C(1) << 31;
    for (unsigned k = 0; k < QN_MAX_INPUTS; k++) {
        uint32_t *s = m->slots + ((size_t)k << m->slot_bits) + (ctx[k] * UINT32_C(0x9E3779B1) >> shift);
        if (*s == 0) /* never seen: what the first input believes, worth as much as a few observations */
            *s = (base & ~UINT32_C(1023)) | (k ? 5 : 0);
        if (k == 0)
            base = *s;
        m->at[k] = s;
        m->in[k] = m->tab.stretch[*s >> 20];
        sum += (int64_t)(m->wa[k] + m->wb[k]) * m->in[k];
    }
    int64_t x = sum >> 16;
    x = x > QN_MAX_STRETCH ? QN_MAX_STRETCH : x < -QN_MAX_STRETCH ? -QN_MAX_STRETCH : x;
    m->p = m->tab.squash[x + 2048];
    return m->p;
}

void qn_max_learn(qn_max *m, unsigned bit)
{
    const int32_t miss = (int32_t)(bit << 16) - (int32_t)m->p; /* 2^−16 */
    const int32_t rate = 2 + 600 / (*m->seen + 32); /* falls as 1/n to a floor */
    *m->seen = (uint16_t)(*m->seen + (*m->seen < 65535));
    for (unsigned k = 0; k < QN_MAX_INPUTS; k++) {
        const int32_t step = (int32_t)((int64_t)m->in[k] * miss * rate >> 18);
        m->wa[k] = clamp(m->wa[k] + step, -WEIGHT_MAX, WEIGHT_MAX);
        m->wb[k] = clamp(m->wb[k] + step, -WEIGHT_MAX, WEIGHT_MAX);
        const uint32_t s = *m->at[k], n = s & 1023, p = s >> 10;
        const uint32_t to = bit ? (UINT32_C(1) << 22) - 1 : 0;
        const int32_t d = (int32_t)(((int64_t)to - (int64_t)p) * m->tab.recip[n] >> 16);
        *m->at[k] = (uint32_t)((int32_t)p + d) << 10 | (n + (n < QN_MAX_COUNT));
    }
}

static int32_t score_of(const qn_max *m, int32_t lg, int32_t scale)
{
    int32_t k = ((lg << 8) - scale + (8 << 16)) >> 11;
    k = k < 0 ? 0 : k >= QN_MAX_SCORES ? QN_MAX_SCORES - 1 : k;
    return m->tab.score[k];
}

void qn_max_learn_scale(qn_max *m, uint32_t i, uint32_t j, int32_t lg, unsigned sign)
{
    const uint32_t r = i / m->cols;
    const uint32_t nr = r + 3 < QN_MAX_COUNT ? r + 3 : QN_MAX_COUNT, nj = j + 3 < QN_MAX_COUNT ? j + 3 : QN_MAX_COUNT;
    const uint32_t ni = i + 30 < QN_MAX_COUNT * 16 ? i + 30 : QN_MAX_COUNT * 16;
    const int32_t joint = score_of(m, lg, m->whole + m->row + m->col[j]);
    const int32_t alone = score_of(m, lg, m->row_alone);
    m->row += (int32_t)((int64_t)joint * m->tab.recip[nj] >> 12);
    m->col[j] += (int32_t)((int64_t)joint * m->tab.recip[nr] >> 12);
    m->row_alone += (int32_t)((int64_t)alone * m->tab.recip[nj] >> 12);
    m->whole += joint * 16 / (int32_t)ni;
    m->near += score_of(m, lg, m->near) * 2;
    m->col_sign[j] = (int16_t)(m->col_sign[j] + ((sign ? 16384 : -16384) - m->col_sign[j]) * (int32_t)m->tab.recip[nr] / 65536);
    m->row_sign += ((sign ? 16384 : -16384) - m->row_sign) * (int32_t)m->tab.recip[nj] / 65536;
}
