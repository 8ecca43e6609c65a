declare module "world-atlas/land-50m.json" {
  const topology: unknown;
  export default topology;
}
declare module "us-atlas/states-10m.json" {
  const topology: unknown;
  export default topology;
}
