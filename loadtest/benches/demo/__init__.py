"""The demonstration behind `lightbox demo`: a modality, a server and a reader on one machine."""
