#include "common/crypto/cmq_seal.h"
