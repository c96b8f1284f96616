"""The demonstration atlas: renderings of one averaged brain, and a few clinical DICOM samples."""
