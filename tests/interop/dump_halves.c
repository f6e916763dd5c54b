/* dump_halves.c: conversions as raw bytes, for half_numpy.py.
 *   PROGRAM widen f16   65536 f32      PROGRAM narrow f16 < f32s   their u16 */
#include "base/half.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const int bf = strcmp(argv[2], "bf16") == 0;
    if (strcmp(argv[1], "widen") == 0) {
        for (uint32_t i = 0; i < 65536; i++) {
            const float f = bf ? qn_bf16_to_f32((uint16_t)i) : qn_f16_to_f32((uint16_t)i);
            if (fwrite(&f, 4, 1, stdout) != 1)
                return 1;
        }
        return 0;
    }
    float f;
    while (fread(&f, 4, 1, stdin) == 1) {
        const uint16_t h = bf ? qn_f32_to_bf16(f) : qn_f32_to_f16(f);
        if (fwrite(&h, 2, 1, stdout) != 1)
            return 1;
    }
    return 0;
}
