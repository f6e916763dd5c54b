/* cmd_version.c: quern version. */
#include "base/cpu.h"
#include "cli/commands.h"
#include "cli/json_write.h"
#include <stdio.h>
#include <zstd.h>

static const char *compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    (void)args;
    (void)err;
    if (cli->common->json) {
        qn_json_writer j;
        qn_jw_open(&j, stdout, "version");
        qn_jw_text(&j, "compiler", compiler());
        qn_jw_text(&j, "zstd", ZSTD_versionString());
        qn_jw_text(&j, "kernels", qn_cpu_name(cli->env.cpu));
        qn_jw_u64(&j, "threads", cli->env.n_threads);
        qn_jw_close(&j);
        return QN_OK;
    }
    printf("quern %s\n", qn_version());
    if (!cli->common->quiet)
        printf("compiler  %s\nzstd      %s\nkernels   %s\nthreads   %u\n", compiler(), ZSTD_versionString(),
               qn_cpu_name(cli->env.cpu), cli->env.n_threads);
    return QN_OK;
}

static const qn_example examples[] = {
    {"quern version -q", "the version alone, for scripts"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"compiler", "what built the program"},
    {"zstd", "version of libzstd in use"},
    {"kernels", "instruction set in use: scalar, avx2, avx512 (QUERN_CPU forces one)"},
    {"threads", "cores that a run would use"},
    {NULL, NULL},
};

const qn_command qn_cmd_version = {
    .name = "version",
    .summary = "tell the version and what it runs on",
    .synopsis = "[options]",
    .description = "The first line is the name and the version. What follows helps with reports of problems.",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(qn_common),
    .run = run,
};
