#include "common/wire/cmq_topic.h"
