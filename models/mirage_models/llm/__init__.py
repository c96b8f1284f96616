"""From a GPT-NeoX checkpoint (Pythia, Dolly v2) to a bundle that decodes fast on a CPU."""
