// The model families. A family is its own files and a line here: see models/family/family.h.
#pragma once

#include "models/cvt.h"
#include "models/deit.h"
#include "models/hybrid.h"
#include "models/regnet.h"
#include "models/resnet.h"
#include "models/swin.h"
#include "models/vit.h"

namespace vitrine {

using Families = FamilyList<ViTFamily,        //
                            DistilledFamily,  //
                            HybridFamily,     //
                            SwinFamily,       //
                            CvTFamily,        //
                            ResNetFamily,     //
                            RegNetFamily>;

}  // namespace vitrine
