#include "common/conf/cmq_conf.h"
