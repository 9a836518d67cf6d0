#include "common/wire/cmq_batch.h"
