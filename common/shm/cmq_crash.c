#include "common/shm/cmq_crash.h"
