"""Models on a CPU, without torch: bundles, engines, and what turns texts and pixels into vectors, texts and images."""

import mirage_core as mirage_core  # before any library that it keeps from reporting home
