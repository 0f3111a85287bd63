"""What people do with a calculator: phonons, spectra, dielectrics.

These files speak ASE only: they ask ``atoms.calc`` for properties under ASE's names and know no
model, so that they work with any calculator that offers what they need. The public doors are
:mod:`asesc.phonons` and :mod:`asesc.spectra`.
"""
