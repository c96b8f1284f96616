"""The common parts of all MIRAGE services.

Importing it keeps libraries from reporting home: no process of MIRAGE connects to anything that its operator did not
name.
"""

import os
import sys

# ONNX Runtime 1.32 and huggingface_hub send usage data unless it is switched off before they are loaded. An operator who sets
# a variable decides otherwise.
for _name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "1")
# OpenVINO and NNCF count their users through this package, without asking, wherever it is installed (OpenVINO brings it). They do
# without it if it cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails then
