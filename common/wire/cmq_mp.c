#include "common/wire/cmq_mp.h"
