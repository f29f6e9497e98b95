"""The scikit-learn face: estimators on NumPy, Dask, xarray and Zarr input."""
