"""What every MIRAGE service is built with.

Importing it keeps libraries from reporting home: no process of MIRAGE connects to anything that its operator did not name.
"""

import os

# ONNX Runtime 1.32 and huggingface_hub send usage data unless told before they are loaded; an operator who
# sets a variable decides otherwise. OpenVINO and NNCF ask `openvino_telemetry`, which asks for consent that nobody gave.
for _name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "1")
