/* signals.c: see signals.h. */
#include "cli/signals.h"
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { TWICE_MS = 300 };

static atomic_int caught;

/* A supervisor may signal the process and its group, which is one wish delivered twice; a person cannot be that quick. */
static void on_signal(int sig)
{
    static volatile sig_atomic_t first_ms;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const int now_ms = (int)((t.tv_sec * 1000 + t.tv_nsec / 1000000) & 0x3fffffff);
    if (atomic_load(&caught) == 0) {
        first_ms = now_ms;
        atomic_store(&caught, sig);
    } else if (((now_ms - first_ms) & 0x3fffffff) > TWICE_MS) {
        signal(sig, SIG_DFL);
        raise(sig); /* delivered when this handler returns */
    }
}

void qn_signals_init(void)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
    sigemptyset(&ours.sa_mask);
    for (unsigned i = 0; i < sizeof stops / sizeof stops[0]; i++)
        if (sigaction(stops[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(stops[i], &ours, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

const atomic_int *qn_signals_flag(void)
{
    return &caught;
}

_Noreturn void qn_signals_die(int sig)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    signal(sig, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(sig);
    _exit(128 + sig);
}
