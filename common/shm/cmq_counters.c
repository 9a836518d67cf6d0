#include "common/shm/cmq_counters.h"
