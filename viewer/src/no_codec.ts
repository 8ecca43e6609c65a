/** Stands for codecs that no field is stored with. */

export default {
  fromConfig(): never {
    throw new Error("This array is stored with a codec that fields do not have.");
  },
};
