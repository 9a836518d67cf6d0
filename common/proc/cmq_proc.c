#include "common/proc/cmq_proc.h"
