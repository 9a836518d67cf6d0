#include "common/crypto/cmq_keyring.h"
