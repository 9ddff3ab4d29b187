"""Networks opened: read into a canonical form, kept once, built for engines, cut and tuned.

structure, records, errors: what a network, a family and a build are. reading/ makes ONNX files canonical;
families/ finds what networks share; building/ compiles a family's stage; cutting/ finds equal layers of
different networks; precision/ searches engine and precision; running/ is what serving needs, without `onnx`.
"""
