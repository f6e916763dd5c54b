/* npz.h: the numpy archive: a zip of .npy members, a tensor each, named like the member without its ending.
 *
 * Arrays in STORED members are read in place. Those in DEFLATED members are inflated from the front whenever they are asked
 * for; decoders that have come some way are kept, so that reading on costs nothing twice, but going back does. */
#ifndef QN_FORMATS_NPZ_NPZ_H
#define QN_FORMATS_NPZ_NPZ_H

#include "formats/registry.h"

extern const qn_format qn_format_npz;

#endif
