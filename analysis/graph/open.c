/* open.c: the graph of a checkpoint, by what it is. */
#include "analysis/graph/build.h"
#include "base/err.h"
#include "formats/gguf/gguf.h"
#include <string.h>

static const qn_arch *find_class(const char *name)
{
    for (const qn_arch *a = qn_archs_hf; a->build; a++)
        if (a->class_name && !strcmp(a->class_name, name))
            return a;
    return NULL;
}

static const qn_arch *find_type(const qn_arch *a, const char *type)
{
    for (; a->build; a++)
        if (!strcmp(a->model_type, type))
            return a;
    return NULL;
}

/* architectures[0] is the surest sign; the model type counts where that is absent or names a model of several parts around ours.
 * Other classes over a known type (classifiers, bare encoders) have no output layer. */
static qn_code find_arch(const qn_config *c, const qn_arch **arch, qn_err *err)
{
    const char *type, *name = NULL;
    uint64_t n;
    QN_TRY(qn_config_list(c, "architectures", &n, err));
    if (n)
        QN_TRY(qn_config_item_str(c, "architectures", 0, &name, err));
    QN_TRY(qn_config_str_or(c, "model_type", NULL, &type, err));
    *arch = name ? find_class(name) : NULL;
    if (!*arch && type && (!name || strstr(name, "ForConditionalGeneration")))
        *arch = find_type(qn_archs_hf, type);
    if (*arch)
        return QN_OK;
    if (!name && !type)
        return qn_config_fail(c, err, QN_E_UNSUPPORTED, "neither architectures nor model_type says what model this is");
    char shown[96];
    qn_printable(shown, sizeof shown, name ? name : type, strlen(name ? name : type));
    return qn_config_fail(c, err, QN_E_UNSUPPORTED, "%s \"%s\" is not known", name ? "the architecture" : "the model type", shown);
}

static qn_code of_config(qn_build *b, const qn_env *env, qn_source *s, qn_err *err)
{
    qn_config c;
    const qn_arch *arch;
    QN_TRY(qn_config_open(&c, s, err));
    b->config = &c;
    qn_code rc = find_arch(&c, &arch, err);
    if (rc == QN_OK)
        rc = qn_build_check(b, err);
    if (rc == QN_OK) {
        b->type = arch->model_type;
        rc = arch->build(b, env, s, err);
    }
    b->config = NULL;
    qn_config_release(&c);
    return rc;
}

static qn_code of_gguf(qn_build *b, const qn_env *env, qn_source *s, qn_arena *arena, qn_err *err)
{
    qn_gguf gguf;
    char name[64], shown[96];
    QN_TRY(qn_gguf_open(&gguf, arena, s, err));
    QN_TRY(qn_gguf_get_str(&gguf, "general.architecture", name, sizeof name, err));
    const qn_arch *arch = find_type(qn_archs_gguf, name);
    qn_printable(shown, sizeof shown, name, strlen(name));
    if (!arch)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the architecture \"%s\" is not known", shown);
    b->gguf = &gguf;
    b->type = arch->model_type;
    const qn_code rc = arch->build(b, env, s, err);
    b->gguf = NULL;
    return rc;
}

/* Do the bytes begin like a GGUF file? */
static qn_code is_gguf(qn_source *s, bool *yes, qn_err *err)
{
    uint8_t magic[4] = {0};
    if (!s->is_dir && s->n_objects > 0 && s->objects[0].kind == QN_OBJECT_BLOB && s->objects[0].n_bytes >= sizeof magic)
        QN_TRY(qn_source_read(s, 0, 0, sizeof magic, magic, err));
    *yes = !memcmp(magic, "GGUF", 4);
    return QN_OK;
}

static bool is_onnx(const qn_source *s)
{
    if (!strcmp(s->ops->format, "onnx"))
        return true;
    for (uint64_t i = 0; i < s->n_files; i++) {
        const size_t n = strlen(s->files[i].path);
        if (n > 5 && !strcmp(s->files[i].path + n - 5, ".onnx"))
            return true;
    }
    return false;
}

/* By the names of the tensors alone; NULL: unknown. */
static qn_builder find_named(const qn_source *s)
{
    for (const qn_arch_named *a = qn_archs_named; a->build; a++) {
        const char *const *t = a->tensors;
        while (*t && qn_source_tensor_find(s, *t) != UINT64_MAX)
            t++;
        if (!*t)
            return a->build;
    }
    return NULL;
}

qn_code qn_graph_open(const qn_env *env, qn_source *s, qn_graph **out, qn_err *err)
{
    qn_build b = {.copy = UINT64_MAX};
    bool gguf;
    *out = NULL;
    QN_TRY(is_gguf(s, &gguf, err));
    qn_code rc;
    if (gguf) {
        qn_arena arena;
        qn_arena_init(&arena, env->alloc);
        rc = of_gguf(&b, env, s, &arena, err);
        qn_arena_release(&arena);
    } else if (qn_config_exists(s)) {
        rc = of_config(&b, env, s, err);
    } else if (is_onnx(s)) {
        return qn_err_in_path(err, qn_graph_of_onnx(env, s, out, err), s->path);
    } else if (find_named(s)) {
        rc = find_named(s)(&b, env, s, err);
    } else {
        rc = QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "nothing here says what the tensors mean: a config.json beside them, an ONNX or a "
                                                          "GGUF file is needed");
    }
    if (rc != QN_OK) {
        qn_graph_close(b.g);
        return qn_err_in_path(err, rc, s->path);
    }
    *out = b.g;
    return QN_OK;
}
