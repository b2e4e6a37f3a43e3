#include "fonio/base.h"

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *fonio_version(void) {
  return VERSION_TEXT(FONIO_VERSION_MAJOR, FONIO_VERSION_MINOR, FONIO_VERSION_PATCH);
}
