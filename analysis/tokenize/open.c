/* open.c: where the file of a tokenizer is found: in an opened checkpoint, in a folder, or by itself. */
#include "analysis/tokenize/tokenizer_impl.h"

enum { HEAD_BYTES = 4096 };

/* ---- files of a source ---- */

struct source_file {
    qn_source *s;
    uint64_t file;
};

struct source_place {
    qn_tok_place base;
    qn_source *s;
    struct source_file at[2]; /* the tokenizer's file, and one beside it */
    unsigned n;
};

/* The object of the file that holds byte `off`; objects lie end to end. */
static uint64_t object_at(const qn_source *s, const qn_source_file *f, uint64_t off)
{
    uint64_t low = f->first_object, high = f->first_object + f->n_objects;
    while (high - low > 1) {
        const uint64_t mid = low + (high - low) / 2;
        if (s->objects[mid].off <= off)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static qn_code source_read(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct source_file *sf = ctx;
    const qn_source_file *f = &sf->s->files[sf->file];
    for (uint64_t i = n ? object_at(sf->s, f, off) : 0; n > 0; i++) {
        const qn_object *o = &sf->s->objects[i];
        const uint64_t skip = off - o->off, part = qn_min_u64(n, o->n_bytes - skip);
        if (part > 0)
            QN_TRY(qn_source_read(sf->s, i, skip, part, dst, err));
        dst = (char *)dst + part;
        off += part;
        n -= part;
    }
    return QN_OK;
}

/* "*.gguf": by ending. */
static bool name_matches(const char *path, const char *name)
{
    const size_t n = strlen(path), n_name = strlen(name);
    if (name[0] != '*')
        return strcmp(path, name) == 0;
    return n > n_name - 1 && strcmp(path + n - (n_name - 1), name + 1) == 0;
}

static qn_code source_find(qn_tok_place *p, const char *name, qn_tok_file *out, bool *there, qn_err *err)
{
    struct source_place *sp = (struct source_place *)p;
    (void)err;
    *there = false;
    for (uint64_t i = 0; i < sp->s->n_files && !*there; i++)
        if (name_matches(sp->s->files[i].path, name)) {
            struct source_file *sf = &sp->at[sp->n < 1 ? sp->n++ : 1];
            *sf = (struct source_file){.s = sp->s, .file = i};
            *out = (qn_tok_file){.path = sp->s->files[i].path, .n_bytes = sp->s->files[i].n_bytes, .read = source_read,
                                 .ctx = sf};
            *there = true;
        }
    return QN_OK;
}

/* ---- files of a folder ---- */

struct folder_place {
    qn_tok_place base;
    const qn_env *env;
    const char *dir;
    qn_file file[2];
    unsigned n;
};

static qn_code file_read(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_file_read(ctx, dst, n, off, err);
}

static qn_code of_file(qn_file *file, qn_tok_file *out, qn_err *err)
{
    qn_stat st;
    QN_TRY(qn_file_stat(file, &st, err));
    *out = (qn_tok_file){.path = file->path, .n_bytes = st.n_bytes, .read = file_read, .ctx = file};
    return QN_OK;
}

static qn_code folder_find(qn_tok_place *p, const char *name, qn_tok_file *out, bool *there, qn_err *err)
{
    struct folder_place *fp = (struct folder_place *)p;
    qn_stat st;
    *there = false;
    if (name[0] == '*')
        return QN_OK; /* of many models in one folder none is its tokenizer */
    char *path = qn_path_join(fp->env->alloc, fp->dir, name, err);
    if (!path)
        return QN_E_MEMORY;
    qn_code rc = qn_fs_find(fp->env->fs, path, &st, there, err);
    if (rc == QN_OK && *there) {
        qn_file *f = &fp->file[fp->n < 1 ? fp->n++ : 1];
        qn_file_drop(f);
        *f = QN_FILE_CLOSED;
        rc = qn_file_open(f, fp->env->fs, fp->env->alloc, path, QN_OPEN_READ, err);
        if (rc == QN_OK)
            rc = of_file(f, out, err);
    }
    qn_mem_put(fp->env->alloc, path);
    return rc;
}

/* ---- loading ---- */

static qn_code new_tokenizer(const qn_env *env, const char *file, qn_tokenizer **out, qn_err *err)
{
    qn_tokenizer *t = qn_mem_zeros(env->alloc, 1, sizeof *t, err);
    if (!t)
        return QN_E_MEMORY;
    t->env = env;
    t->alloc = env->alloc;
    qn_arena_init(&t->arena, env->alloc);
    t->bos = t->eos = t->unk = QN_TOK_NONE;
    t->file = qn_arena_str(&t->arena, file, strlen(file), err);
    if (!t->file) {
        qn_tokenizer_close(t);
        return QN_E_MEMORY;
    }
    *out = t;
    return QN_OK;
}

static qn_code load(const qn_env *env, const qn_tok_loader *l, const qn_tok_file *f, qn_tok_place *place, qn_tokenizer **out,
                    qn_err *err)
{
    qn_tokenizer *t;
    QN_TRY(new_tokenizer(env, f->path, &t, err));
    qn_code rc = l->load(t, f, place, err);
    if (rc == QN_OK)
        rc = qn_err_in_path(err, qn_tok_finish(t, err), f->path);
    if (rc == QN_OK)
        *out = t;
    else
        qn_tokenizer_close(t);
    return rc;
}

static qn_code load_from(const qn_env *env, qn_tok_place *place, const char *where, qn_tokenizer **out, qn_err *err)
{
    for (const qn_tok_loader *l = qn_tok_loaders; l->name; l++) {
        qn_tok_file f;
        bool there;
        QN_TRY(place->find(place, l->name, &f, &there, err));
        if (there)
            return load(env, l, &f, place, out, err);
    }
    return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "holds no tokenizer: no tokenizer.json, nor another kind that is known"), where);
}

qn_code qn_tokenizer_of_source(const qn_env *env, qn_source *s, qn_tokenizer **out, qn_err *err)
{
    struct source_place p = {.base = {.find = source_find}, .s = s};
    return load_from(env, &p.base, s->path, out, err);
}

static qn_code open_folder(const qn_env *env, const char *path, qn_tokenizer **out, qn_err *err)
{
    struct folder_place p = {.base = {.find = folder_find}, .env = env, .dir = path,
                             .file = {QN_FILE_CLOSED, QN_FILE_CLOSED}};
    const qn_code rc = load_from(env, &p.base, path, out, err);
    qn_file_drop(&p.file[0]);
    qn_file_drop(&p.file[1]);
    return rc;
}

/* No tokenizer by itself, so a checkpoint that may hold one. */
static qn_code of_checkpoint(const qn_env *env, const char *path, qn_tokenizer **out, qn_err *err)
{
    qn_source *s;
    QN_TRY(qn_source_open(env, path, &s, err));
    const qn_code rc = qn_tokenizer_of_source(env, s, out, err);
    qn_source_close(s);
    return rc;
}

static qn_code of_one_file(const qn_env *env, qn_file *file, const char *dir, qn_tokenizer **out, qn_err *err)
{
    struct folder_place p = {.base = {.find = folder_find}, .env = env, .dir = dir, .n = 1,
                             .file = {QN_FILE_CLOSED, QN_FILE_CLOSED}};
    uint8_t head[HEAD_BYTES];
    qn_tok_file f;
    QN_TRY(of_file(file, &f, err));
    const uint64_t n = qn_min_u64(f.n_bytes, sizeof head);
    QN_TRY(qn_file_read(file, head, n, 0, err));
    for (const qn_tok_loader *l = qn_tok_loaders; l->name; l++)
        if (l->probe(head, n)) {
            const qn_code rc = load(env, l, &f, &p.base, out, err);
            qn_file_drop(&p.file[1]);
            return rc;
        }
    return of_checkpoint(env, file->path, out, err);
}

qn_code qn_tokenizer_open(const qn_env *env, const char *path, qn_tokenizer **out, qn_err *err)
{
    qn_stat st;
    qn_file file = QN_FILE_CLOSED;
    QN_TRY(qn_fs_stat(env->fs, path, &st, err));
    if (st.is_dir)
        return open_folder(env, path, out, err);
    QN_TRY(qn_file_open(&file, env->fs, env->alloc, path, QN_OPEN_READ, err));
    char *dir = qn_path_dir(env->alloc, path, err);
    const qn_code rc = dir ? of_one_file(env, &file, dir, out, err) : QN_E_MEMORY;
    qn_mem_put(env->alloc, dir);
    qn_file_drop(&file);
    return rc;
}
