#include "bt/translator/code_verifier.h"

#include <cstdlib>
#include <cstring>

#include "bt/translator/code_walk.h"

namespace bt {

std::string CodeVerifier::Verify(const Code& code) const {
  return CodeWalk(space_, context_, stubs_, code).Run();
}

bool CodeVerifier::Wanted() {
  const char* value = std::getenv("VMM_VERIFY_CODE");
  return value && *value && std::strcmp(value, "0") != 0;
}

}  // namespace bt
