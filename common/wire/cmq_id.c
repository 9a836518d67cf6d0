#include "common/wire/cmq_id.h"
