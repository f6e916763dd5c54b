/* sanitized.c: is this a build with sanitizers? Alone, since programs without Criterion ask too. */
#include "tests/support/testkit.h"

bool qt_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return true;
#else
    return false;
#endif
#else
    return false;
#endif
}
