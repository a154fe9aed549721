//! Builds a platform image: `cargo run -p calotype-platform-image --example build -- tiny CACHE`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(recipe), Some(cache)) = (arguments.next(), arguments.next()) else {
        return Err("usage: build RECIPE CACHE".into());
    };
    let started = std::time::Instant::now();
    let mut progress = |step: &str, fraction: f64| {
        let (percent, seconds) = (fraction * 100.0, started.elapsed().as_secs_f64());
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("{seconds:6.2} s {percent:3.0} % {step}\n"),
        );
    };
    let built = calotype_platform_image::build(recipe.parse()?, Path::new(&cache), &mut progress)?;
    let text = format!("{}\n{:#?}\n", built.disk.display(), built.description);
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    Ok(())
}
