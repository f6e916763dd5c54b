/* signals.c: see signals.h. */
#include "cli/signals.h"
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_int caught;

static void on_signal(int sig)
{
    if (atomic_exchange(&caught, sig) != 0) {
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
