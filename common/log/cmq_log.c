#include "common/log/cmq_log.h"
