#include "common/shm/cmq_ring.h"
