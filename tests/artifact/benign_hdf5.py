"""HDF5 as h5py writes it, with the names that Keras uses."""

import numpy as np

from benign_files import NUMPY_TYPES, array


def hdf5_files(out):
    """HDF5 in each version of its format, with few and many links and attributes."""
    import h5py

    for version in ["earliest", "v108", "v110", "v112", "v114", "v200"]:
        for order in [False, True]:
            path = out.path("hdf5", f"{version}{'-ordered' * order}.h5")
            with h5py.File(path, "w", libver=version, track_order=order) as file:
                write_hdf5(file, order)


def write_hdf5(file, order):
    """Groups and datasets with names as Keras has them."""
    file.attrs["keras_version"] = b"2.15.0"
    names = np.array([f"layer_{n}".encode() for n in range(3000)])
    for n in range(40):
        file.attrs[f"layer_names{n}"] = names[n * 70 : n * 70 + 70]
    many = file.create_group("many", track_order=order)
    for n in range(3000):
        many.create_dataset(f"d{n}", data=np.float32(n)) if n % 10 else many.create_group(f"g{n}")
    few = file.create_group("few", track_order=order)
    few.attrs["weight_names"] = np.asarray([])
    kernel = few.create_dataset("kernel", data=array("f4", (30, 40)))
    kernel.attrs["name"] = "kernel:0"
    for dtype in NUMPY_TYPES[:12] + [">f4", "S3", "V2"]:
        few.create_dataset(dtype, data=np.zeros((2, 3), dtype))
    few.create_dataset("none", data=np.zeros((0, 4), "f4"))
    few.create_dataset("growing", data=array("f4", (10,)), maxshape=(None,))
    few.create_dataset("growing-twice", data=array("f4", (5, 6)), maxshape=(None, None))
    image = array("f4", (100, 100))
    few.create_dataset("one-chunk", data=image, chunks=image.shape, compression="gzip")
    few.create_dataset("gzip", data=image, compression="gzip", shuffle=True, fletcher32=True)
    few.create_dataset("lzf", data=image, chunks=(10, 10), compression="lzf")
